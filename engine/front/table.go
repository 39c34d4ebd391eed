package main

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	gap          = "  "
	usualColumns = 80
	toTheSecond  = 19
)

var columns = []string{"NAME", "NAMESPACE", "REVISION", "UPDATED", "STATUS", "CHART", "APP VERSION"}

// table writes the releases, or returns errUnusual if columns would have to be cut or a cell is not plain ASCII. Clusters
// are told if there are several, or if they are asked for.
func table(rows []row, headers, clusters bool, out *bytes.Buffer) error {
	sources, updates := false, false
	for _, found := range rows {
		clusters = clusters || found.clusterID != rows[0].clusterID
		sources = sources || found.source != ""
		updates = updates || found.update != "" || found.sourceRemoved
	}
	lines := make([][]string, 0, len(rows)+1)
	if headers {
		head := withCell(withCluster(columns, "CLUSTER", clusters), "SOURCE", sources)
		lines = append(lines, withCell(head, "UPDATE", updates))
	}
	for _, found := range rows {
		if found.revision == "0" || found.revision == "" {
			return errUnusual // what never was installed has its own words
		}
		cells := withCell(withCluster(found.cells(), found.clusterName, clusters), found.sourceCell(), sources)
		lines = append(lines, withCell(cells, found.updateCell(), updates))
	}
	return print(lines, out)
}

func print(lines [][]string, out *bytes.Buffer) error {
	if len(lines) == 0 {
		return nil
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for at, cell := range line {
			if !plain(cell, "") {
				return errUnusual
			}
			widths[at] = max(widths[at], len(cell))
		}
	}
	if tooWide(widths) {
		return errUnusual
	}
	width := 1
	for _, one := range widths {
		width += one + len(gap)
	}
	out.Grow(width * len(lines))
	blanks := strings.Repeat(" ", width)
	for _, line := range lines {
		missing := 0 // no line ends with spaces
		for at, cell := range line {
			if cell = strings.TrimRight(cell, " "); cell != "" {
				out.WriteString(blanks[:missing])
				out.WriteString(cell)
				missing = 0
			}
			missing += widths[at] - len(cell) + len(gap)
		}
		out.WriteByte('\n')
	}
	return nil
}

func withCluster(cells []string, cluster string, shown bool) []string {
	if !shown {
		return cells
	}
	return slices.Insert(slices.Clone(cells), 1, cluster)
}

func withCell(cells []string, cell string, shown bool) []string {
	if !shown {
		return cells
	}
	return append(slices.Clone(cells), cell)
}

func (found row) cells() []string {
	return []string{
		found.name, found.namespace, found.revision, timeOf(found.updatedAt), found.status,
		chartOf(found.chartName, found.chartVersion), found.appVersion,
	}
}

func (found row) sourceCell() string {
	if found.sourceRemoved {
		return found.source + " (removed)"
	}
	return found.source
}

func (found row) updateCell() string {
	if found.sourceRemoved {
		return "unknown"
	}
	return updateOf(found.update, found.deprecated)
}

// timeOf returns a time of an answer to the second, as one word.
func timeOf(moment string) string {
	if moment == "" {
		return ""
	}
	return moment[:min(toTheSecond, len(moment))] + "Z"
}

// plain tells whether the text has only printable ASCII, and the characters that are kept.
func plain(text, kept string) bool {
	for _, char := range []byte(text) {
		if (char < ' ' || char > '~') && strings.IndexByte(kept, char) < 0 {
			return false
		}
	}
	return true
}

// tooWide tells whether the table does not fit a terminal; a file or a program gets whole lines.
func tooWide(widths []int) bool {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return false
	}
	width := int(size.Col)
	if given, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && given > 0 {
		width = given
	} else if width == 0 {
		width = usualColumns
	}
	total := len(gap) * (len(widths) - 1)
	for _, one := range widths {
		total += one
	}
	return total > width
}
