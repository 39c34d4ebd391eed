package main

import (
	"slices"
	"strings"
)

// row is a release as lists of the API have it: with what is asked for, the rest is empty.
type row struct {
	clusterID, clusterName, namespace, name, revision, updatedAt, status string
	chartName, chartVersion, appVersion, source, update                  string
	deprecated, sourceRemoved                                            bool
}

// appendRows adds the rows of an answer: a table as the server writes it, without white space. It is read here, because a
// list may have thousands of rows, and encoding/json takes six times as long. Anything else, such as text with an escaped
// character, which a table could not show as it is, is errUnusual.
func appendRows(rows []row, text string) ([]row, error) {
	reading := reader{rest: text}
	var columns []string
	reading.skip(`{"columns":`)
	reading.array(func() { columns = append(columns, reading.text()) })
	rows = slices.Grow(rows, strings.Count(reading.rest, "["))
	reading.skip(`,"rows":`)
	reading.array(func() { rows = append(rows, reading.row(columns)) })
	reading.skip("}")
	if reading.failed || reading.rest != "" {
		return nil, errUnusual
	}
	return rows, nil
}

// reader is what is still to be read; failed, once it was not as expected.
type reader struct {
	rest   string
	failed bool
}

// array reads an array, each element of it by the function.
func (reading *reader) array(element func()) {
	reading.skip("[")
	if reading.next("]") {
		return
	}
	for again := true; again && !reading.failed; again = reading.next(",") {
		element()
	}
	reading.skip("]")
}

func (reading *reader) row(columns []string) row {
	var found row
	at := 0
	reading.array(func() {
		name := ""
		if at < len(columns) {
			name = columns[at]
		}
		at++
		switch name {
		case "revision":
			found.revision = reading.digits()
		case "source_removed_at":
			if found.sourceRemoved = !reading.next("null"); found.sourceRemoved {
				reading.text()
			}
		case "update_deprecated":
			found.deprecated = reading.truth()
		default:
			if into := found.field(name); into != nil {
				*into = reading.text()
			} else {
				reading.failed = true
			}
		}
	})
	if at != len(columns) || found.clusterID == "" || found.name == "" || found.namespace == "" {
		reading.failed = true
	}
	return found
}

func (found *row) field(name string) *string {
	switch name {
	case "cluster_id":
		return &found.clusterID
	case "cluster_name":
		return &found.clusterName
	case "namespace":
		return &found.namespace
	case "name":
		return &found.name
	case "updated_at":
		return &found.updatedAt
	case "status":
		return &found.status
	case "chart_name":
		return &found.chartName
	case "chart_version":
		return &found.chartVersion
	case "app_version":
		return &found.appVersion
	case "source":
		return &found.source
	case "update_available":
		return &found.update
	}
	return nil
}

// next tells whether the word comes next, and goes past it.
func (reading *reader) next(word string) bool {
	rest, found := strings.CutPrefix(reading.rest, word)
	reading.rest = rest
	return found
}

func (reading *reader) skip(word string) {
	if !reading.next(word) {
		reading.failed = true
	}
}

// text reads a string without escaped characters.
func (reading *reader) text() string {
	reading.skip(`"`)
	end := strings.IndexByte(reading.rest, '"')
	if reading.failed || end < 0 || strings.IndexByte(reading.rest[:end], '\\') >= 0 {
		reading.failed = true
		return ""
	}
	text := reading.rest[:end]
	reading.rest = reading.rest[end+1:]
	return text
}

func (reading *reader) digits() string {
	end := 0
	for end < len(reading.rest) && '0' <= reading.rest[end] && reading.rest[end] <= '9' {
		end++
	}
	digits := reading.rest[:end]
	reading.rest = reading.rest[end:]
	reading.failed = reading.failed || end == 0
	return digits
}

func (reading *reader) truth() bool {
	if reading.next("true") {
		return true
	}
	reading.skip("false")
	return false
}
