package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"sigs.k8s.io/yaml"
)

const (
	longestText  = 2000
	longestName  = 64
	mostKeywords = 50
	// indexGarbage is by how many per cent garbage may exceed what is in use while an index is read.
	indexGarbage = 50
)

// chartName is what a chart can be asked for by, see chart_sources/registry.py; of another name nothing can be pulled.
var chartName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$`)

// indexEntry is one version of a chart in the index of a repository; what else an entry has is passed over.
type indexEntry struct {
	chart.Metadata

	URLs    []string `json:"urls"`
	Created string   `json:"created"`
	Digest  string   `json:"digest"`
}

// sourceVersion is one row of an index, as store/source_charts.py keeps it.
type sourceVersion struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	OrderKey    string `json:"order_key"`
	IsNewest    bool   `json:"is_newest"`
	AppVersion  string `json:"app_version"`
	Description string `json:"description"`
	IconURL     string `json:"icon_url"`
	Keywords    string `json:"keywords"`
	Deprecated  bool   `json:"deprecated"`
	ReleasedAt  string `json:"released_at"`
	URL         string `json:"url"`
	Digest      string `json:"digest"`
}

// readIndex returns the versions in the index of a repository, of each chart the newest first, as packed JSON.
//
// As in Helm, an entry that names no valid chart is passed over, and the first of several with one version counts.
func readIndex(request *readIndexRequest) (*indexOutcome, error) {
	// The environment lets garbage grow, which saves time where there is little of it: here are hundreds of megabytes.
	defer debug.SetGCPercent(debug.SetGCPercent(indexGarbage))
	charts, err := decodeIndex(bytes.TrimPrefix(request.Index, []byte("\xef\xbb\xbf")))
	if err != nil {
		return nil, refusal{kind: indexError, message: strings.Join(strings.Fields(err.Error()), " ")}
	}
	names := make([]string, 0, len(charts))
	for name := range charts {
		names = append(names, name)
	}
	sort.Strings(names)
	made := &indexOutcome{}
	packed := &bytes.Buffer{}
	into := gzip.NewWriter(packed)
	encoder := json.NewEncoder(into)
	encoder.SetEscapeHTML(false)
	for _, name := range names {
		rows := orderRows(name, charts[name])
		made.Skipped += len(charts[name]) - len(rows)
		made.Count += len(rows)
		for _, row := range rows {
			if err := encoder.Encode(row); err != nil {
				return nil, err
			}
		}
	}
	if err := into.Close(); err != nil {
		return nil, err
	}
	made.Rows = packed.Bytes()
	return made, nil
}

// orderRows returns the valid entries of a chart, the newest first; the newest stable one is marked.
func orderRows(name string, entries []*indexEntry) []*sourceVersion {
	rows := make([]*sourceVersion, 0, len(entries))
	seen := map[string]bool{}
	for _, entry := range entries {
		if row := entry.row(name); row != nil && !seen[row.Version] {
			seen[row.Version] = true
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(one, other *sourceVersion) int { return strings.Compare(other.OrderKey, one.OrderKey) })
	for _, row := range rows {
		if isStable(row.OrderKey) {
			row.IsNewest = true
			break
		}
	}
	return rows
}

func (e *indexEntry) row(name string) *sourceVersion {
	if e == nil || len(e.URLs) == 0 {
		return nil
	}
	if e.APIVersion == "" {
		e.APIVersion = chart.APIVersionV1
	}
	// Helm passes over dependencies that it would refuse in a chart: they do not matter here.
	e.Dependencies = nil
	if len(e.Version) > longestName || !chartName.MatchString(name) || e.Validate() != nil {
		return nil
	}
	key := orderKey(e.Version)
	if key == "" {
		return nil
	}
	return &sourceVersion{
		Name: name, Version: e.Version, OrderKey: key, AppVersion: cut(e.AppVersion), Description: cut(e.Description),
		IconURL: cut(e.Icon), Keywords: cut(strings.Join(e.Keywords[:min(len(e.Keywords), mostKeywords)], " ")),
		Deprecated: e.Deprecated, ReleasedAt: moment(e.Created), URL: cut(e.URLs[0]), Digest: cut(e.Digest),
	}
}

func moment(text string) string {
	parsed, err := time.Parse(time.RFC3339, text)
	parsed = parsed.UTC()
	if err != nil || parsed.Year() < 1 || parsed.Year() > 9999 {
		return ""
	}
	return parsed.Format("2006-01-02T15:04:05Z")
}

// cut returns a text as the database takes it.
func cut(text string) string {
	text = strings.ReplaceAll(text, "\x00", "")
	if len(text) <= longestText {
		return text
	}
	return strings.ToValidUTF8(text[:longestText], "") + "…"
}

// orderKey returns a text by whose bytes versions are in their order; empty for what is no version.
func orderKey(version string) string {
	parsed, err := semver.NewVersion(version)
	if err != nil {
		return ""
	}
	key := fmt.Sprintf("%020d%020d%020d", parsed.Major(), parsed.Minor(), parsed.Patch())
	if parsed.Prerelease() == "" {
		return key + "~"
	}
	key += "-"
	for part := range strings.SplitSeq(parsed.Prerelease(), ".") {
		if strings.Trim(part, "0123456789") == "" {
			key += fmt.Sprintf("0%03d%s!", len(part), part)
		} else {
			key += "1" + part + "!"
		}
	}
	return key
}

func isStable(key string) bool { return strings.HasSuffix(key, "~") }

// orderVersions returns the key of each version, and which one Helm takes for what is wanted.
func orderVersions(request *orderVersionsRequest) (*orderedVersions, error) {
	made := &orderedVersions{Keys: make([]string, len(request.Versions))}
	order := make([]int, len(request.Versions))
	for index, version := range request.Versions {
		made.Keys[index], order[index] = orderKey(version), index
		if version == request.Wanted {
			made.Chosen = version
		}
	}
	if made.Chosen != "" {
		return made, nil
	}
	wanted := request.Wanted
	if wanted == "" {
		wanted = "*"
	}
	constraint, err := semver.NewConstraint(wanted)
	if err != nil {
		return nil, refusal{kind: versionError, message: err.Error()}
	}
	slices.SortStableFunc(order, func(one, other int) int { return strings.Compare(made.Keys[other], made.Keys[one]) })
	for _, index := range order {
		if parsed, err := semver.NewVersion(request.Versions[index]); err == nil && constraint.Check(parsed) {
			made.Chosen = request.Versions[index]
			break
		}
	}
	return made, nil
}

// decodeIndex returns the entries of an index by chart.
//
// An index of megabytes is read entry by entry where its lines allow it, which takes a tenth of the memory; the result
// is the same.
func decodeIndex(data []byte) (map[string][]*indexEntry, error) {
	var whole struct {
		APIVersion string                   `json:"apiVersion"`
		Entries    map[string][]*indexEntry `json:"entries"`
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("it is empty")
	}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("<")) {
		return nil, fmt.Errorf("it is not the index of a chart repository, but HTML or XML, such as a page to log in")
	}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) && json.Valid(data) {
		if err := json.Unmarshal(data, &whole); err != nil {
			return nil, shapeError(err)
		}
	} else if found, version, ok := splitIndex(data); ok {
		whole.Entries, whole.APIVersion = found, version
	} else if err := yaml.Unmarshal(data, &whole); err != nil {
		return nil, shapeError(err)
	}
	if whole.APIVersion == "" {
		if err := yaml.Unmarshal(data, &whole); err != nil { // lines of another shape may have been passed over
			return nil, shapeError(err)
		}
	}
	if whole.APIVersion == "" {
		return nil, fmt.Errorf("no API version is specified; it is not the index of a chart repository")
	}
	return whole.Entries, nil
}

// shapeError tells of what is no index without the types of this program.
func shapeError(err error) error {
	var shape *json.UnmarshalTypeError
	if !errors.As(err, &shape) {
		return err
	}
	where := "the whole document"
	if shape.Field != "" {
		where = shape.Field
	}
	return fmt.Errorf("it is not the index of a chart repository: %s is a JSON or YAML %s", where, shape.Value)
}

// splitIndex cuts an index in block style into its entries, and reads each; false if its lines are of another shape.
func splitIndex(data []byte) (found map[string][]*indexEntry, version string, ok bool) {
	cutter := &indexCutter{found: map[string][]*indexEntry{}}
	for len(data) > 0 {
		line := data
		if end := bytes.IndexByte(data, '\n'); end >= 0 {
			line = data[:end+1]
		}
		data = data[len(line):]
		if !cutter.take(line) {
			return nil, "", false
		}
	}
	if !cutter.flush() {
		return nil, "", false
	}
	return cutter.found, cutter.version, true
}

type indexCutter struct {
	found   map[string][]*indexEntry
	version string
	// within the entries: by how much the names of charts are indented, and the items of the list of this one
	inside       bool
	names, items int
	chart        string
	item         []byte
	seen         bool
}

func (c *indexCutter) take(line []byte) bool {
	text := bytes.TrimRight(line, " \r\n")
	content := bytes.TrimLeft(text, " ")
	indent := len(text) - len(content)
	if len(content) == 0 || (content[0] == '#' && len(c.item) == 0) {
		if len(c.item) > 0 {
			c.item = append(c.item, line...)
		}
		return true
	}
	switch {
	case content[0] == '\t':
		return false
	case indent == 0 && content[0] != '-':
		return c.takeTop(text)
	case indent == 0 && bytes.Equal(content, []byte("---")) && !c.inside:
		return true
	case !c.inside:
		return true // a value of more lines than one, of a key that does not matter
	}
	return c.takeEntry(line, content, indent)
}

func (c *indexCutter) takeTop(text []byte) bool {
	if !c.flush() {
		return false
	}
	c.inside, c.chart = false, ""
	key, value, isKey := bytes.Cut(text, []byte(":"))
	switch {
	case !isKey || bytes.ContainsAny(text[:1], "\"'{[&*!|>?%@`"):
		return false
	case string(key) == "apiVersion":
		var plain struct {
			APIVersion string `json:"apiVersion"`
		}
		if yaml.Unmarshal(text, &plain) != nil {
			return false
		}
		c.version = plain.APIVersion
	case string(key) == "entries":
		if c.seen {
			return false
		}
		c.seen, c.names = true, -1
		c.inside = len(bytes.TrimSpace(value)) == 0
		return c.inside || string(bytes.TrimSpace(value)) == "{}"
	}
	return true
}

func (c *indexCutter) takeEntry(line, content []byte, indent int) bool {
	isItem := content[0] == '-' && (len(content) == 1 || content[1] == ' ')
	if c.names < 0 {
		c.names = indent
	}
	switch {
	case indent == c.names && !isItem:
		if !c.flush() {
			return false
		}
		return c.takeName(content)
	case isItem && c.chart != "" && (indent == c.items || (c.items < 0 && indent >= c.names)):
		if !c.flush() {
			return false
		}
		c.items = indent
		c.item = append(c.item[:0], line...)
		return true
	case len(c.item) > 0 && indent > c.items:
		c.item = append(c.item, line...)
		return true
	}
	return false
}

func (c *indexCutter) takeName(content []byte) bool {
	var named map[string][]*indexEntry
	if yaml.Unmarshal(content, &named) != nil || len(named) != 1 {
		return false
	}
	for name, entries := range named {
		if _, twice := c.found[name]; twice || len(entries) > 0 {
			return false
		}
		c.found[name] = nil
		c.chart, c.items = name, -1
	}
	return true
}

// flush reads the entry whose lines are complete.
func (c *indexCutter) flush() bool {
	if len(c.item) == 0 {
		return true
	}
	var entries []*indexEntry
	if yaml.Unmarshal(c.item, &entries) != nil || len(entries) != 1 {
		return false
	}
	c.item = c.item[:0]
	if entry := entries[0]; entry != nil {
		// what is not kept may be large
		entry.Annotations, entry.Maintainers, entry.Sources, entry.Dependencies = nil, nil, nil, nil
	}
	c.found[c.chart] = append(c.found[c.chart], entries[0])
	return true
}
