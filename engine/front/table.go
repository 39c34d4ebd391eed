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

// table writes the releases, or returns errUnusual if columns would have to be cut or a cell is not plain ASCII.
func table(rows []release, headers bool, out *bytes.Buffer) error {
	several, updates := false, false
	for _, row := range rows {
		if row.ClusterID == nil {
			return errUnusual
		}
		several = several || *row.ClusterID != *rows[0].ClusterID
		updates = updates || row.Update != ""
	}
	var lines [][]string
	if headers {
		lines = append(lines, withCluster(withUpdate(columns, "UPDATE", updates), "CLUSTER", several))
	}
	for _, row := range rows {
		cells, err := row.cells()
		if err != nil {
			return err
		}
		cells = withUpdate(cells, row.update(), updates)
		cluster := ""
		if row.ClusterName != nil {
			cluster = *row.ClusterName
		}
		lines = append(lines, withCluster(cells, cluster, several))
	}
	widths := make([]int, len(columns)+2)
	for _, line := range lines {
		for at, cell := range line {
			if !plain(cell, "") {
				return errUnusual
			}
			widths[at] = max(widths[at], len(cell))
		}
	}
	if len(lines) > 0 && tooWide(widths[:len(lines[0])]) {
		return errUnusual
	}
	for _, line := range lines {
		var padded []string
		for at, cell := range line {
			padded = append(padded, cell+strings.Repeat(" ", widths[at]-len(cell)))
		}
		out.WriteString(strings.TrimRight(strings.Join(padded, gap), " ") + "\n")
	}
	return nil
}

func withCluster(cells []string, cluster string, several bool) []string {
	if !several {
		return cells
	}
	return append([]string{cells[0], cluster}, cells[1:]...)
}

func withUpdate(cells []string, update string, shown bool) []string {
	if !shown {
		return cells
	}
	return append(slices.Clone(cells), update)
}

func (found release) cells() ([]string, error) {
	if found.Name == nil || found.Namespace == nil || found.Status == nil || found.Revision == nil || *found.Revision == 0 {
		return nil, errUnusual
	}
	app := ""
	if found.AppVersion != nil {
		app = *found.AppVersion
	}
	return []string{
		*found.Name, *found.Namespace, strconv.Itoa(*found.Revision), timeOf(found.UpdatedAt), *found.Status, found.chart(), app,
	}, nil
}

// timeOf returns a time of an answer to the second, as one word.
func timeOf(moment *string) string {
	if moment == nil || *moment == "" {
		return ""
	}
	return (*moment)[:min(toTheSecond, len(*moment))] + "Z"
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
