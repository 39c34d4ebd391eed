package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"sigs.k8s.io/yaml"
)

func rowsOf(t *testing.T, index string) ([]sourceVersion, *indexOutcome) {
	t.Helper()
	made, err := readIndex(&readIndexRequest{Index: []byte(index)})
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(made.Rows))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	rows := []sourceVersion{}
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		if line == "" {
			continue
		}
		var row sourceVersion
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows, made
}

const small = `apiVersion: v1
# a comment
entries:
  nginx:
  - apiVersion: v2
    name: nginx
    version: 1.0.0-rc.1
    urls: [charts/nginx-1.0.0-rc.1.tgz]
  - apiVersion: v2
    name: nginx
    version: 0.9.0
    description: |
      A text that looks like entries:
        nginx:
      - name: other
    appVersion: "1.27"
    keywords: [web, proxy]
    deprecated: true
    created: 2026-01-02T03:04:05.678+01:00
    digest: abc
    urls:
    - charts/nginx-0.9.0.tgz
    maintainers:
    - name: somebody
  - apiVersion: v2
    name: nginx
    version: 0.9.0
    description: the second of that version
    urls: [other.tgz]
  - name: nginx
    version: not a version
    urls: [bad.tgz]
  - name: nginx
    version: 0.8.0
  "1password":
    - version: 0.1.0
      name: 1password
      urls: [a.tgz]
  empty: []
generated: "2026-01-02T03:04:05Z"
`

func TestAnIndexIsReadAsHelmReadsIt(t *testing.T) {
	rows, made := rowsOf(t, small)
	found := []string{}
	for _, row := range rows {
		found = append(found, fmt.Sprintf("%s %s %t %t", row.Name, row.Version, row.IsNewest, row.Deprecated))
	}
	wanted := []string{"1password 0.1.0 true false", "nginx 1.0.0-rc.1 false false", "nginx 0.9.0 true true"}
	if !reflect.DeepEqual(found, wanted) || made.Count != 3 || made.Skipped != 3 {
		t.Fatalf("%v, %d rows, %d skipped", found, made.Count, made.Skipped)
	}
	if row := rows[2]; row.AppVersion != "1.27" || row.Keywords != "web proxy" || row.URL != "charts/nginx-0.9.0.tgz" ||
		row.ReleasedAt != "2026-01-02T02:04:05Z" || row.Digest != "abc" ||
		!strings.Contains(row.Description, "- name: other") {
		t.Fatalf("%+v", row)
	}
}

func TestTheSameIndexInEveryShapeGivesTheSame(t *testing.T) {
	var plain any
	if err := yaml.Unmarshal([]byte(small), &plain); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	again, err := yaml.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	wanted, _ := rowsOf(t, small)
	shapes := map[string]string{
		"JSON": string(asJSON), "written again": string(again), "with a mark": "\xef\xbb\xbf" + small,
		"Windows": strings.ReplaceAll(small, "\n", "\r\n"), "a document": "---\n" + small,
		"flow style": "apiVersion: v1\nentries: " + strings.TrimSpace(string(mustEntries(t, plain))) + "\n",
	}
	for name, shape := range shapes {
		if found, _ := rowsOf(t, shape); !reflect.DeepEqual(found, wanted) {
			t.Errorf("%s:\n%+v\n%+v", name, found, wanted)
		}
	}
	for _, name := range []string{"written again", "a document"} {
		if _, _, cut := splitIndex([]byte(shapes[name])); !cut {
			t.Errorf("%s is not read entry by entry", name)
		}
	}
	shared := "apiVersion: v1\nentries:\n  a:\n  - &one {name: a, version: 1.0.0, urls: [x]}\n  b:\n  - <<: *one\n    name: b\n"
	if rows, _ := rowsOf(t, shared); len(rows) != 2 {
		t.Errorf("an anchor: %+v", rows)
	}
}

func mustEntries(t *testing.T, plain any) []byte {
	t.Helper()
	text, err := json.Marshal(plain.(map[string]any)["entries"])
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestANameThatNoChartCanBeAskedForByIsPassedOver(t *testing.T) {
	names := []string{"web", "my chart", "图表", "two\r\nlines", "up/../down", "-web", strings.Repeat("a", 65), strings.Repeat("a", 64), "a.b_c-d"}
	entries := map[string]any{}
	for _, name := range names {
		entries[name] = []any{map[string]any{"apiVersion": "v2", "name": "web", "version": "1.0.0", "urls": []string{"web.tgz"}}}
	}
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "entries": entries})
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := rowsOf(t, string(text))
	kept := map[string]bool{}
	for _, row := range rows {
		kept[row.Name] = true
	}
	wanted := map[string]bool{"web": true, strings.Repeat("a", 64): true, "a.b_c-d": true}
	if !reflect.DeepEqual(kept, wanted) {
		t.Errorf("kept %v", kept)
	}
}

func TestATimeIsKeptIfItsYearHasFourDigitsInUTC(t *testing.T) {
	for text, wanted := range map[string]string{
		"0001-01-01T00:00:00+01:00": "", "9999-12-31T23:59:59-01:00": "", "yesterday": "",
		"0001-01-01T00:00:00Z": "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z": "9999-12-31T23:59:59Z",
	} {
		if found := moment(text); found != wanted {
			t.Errorf("%s: %q", text, found)
		}
	}
}

func TestWhatIsNoIndexIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a page": "<!doctype html><html><body>Log in</body></html>", "nothing": "", "a list": "- a\n- b\n",
		"no version": "entries: {}\n", "broken": "apiVersion: v1\nentries:\n  a:\n  - name: [\n",
		"twice": "apiVersion: v1\nentries:\n  a:\n  - name: a\n    version: 1.0.0\n    version: 2.0.0\n    urls: 7\n",
	} {
		if _, err := readIndex(&readIndexRequest{Index: []byte(text)}); err == nil || classify(err) != indexError {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysAreInTheOrderOfVersions(t *testing.T) {
	texts := []string{
		"1.0.0", "v1.0.0", "1", "1.0", "1.0.1", "0.10.0", "0.9.0", "10.0.0", "1.0.0-alpha", "1.0.0-alpha.1",
		"1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0-alpha-x", "1.0.0-1", "1.0.0-2",
		"1.0.0-10", "1.0.0+build", "2026.01.02",
	}
	for _, one := range texts {
		for _, other := range texts {
			wanted := semver.MustParse(one).Compare(semver.MustParse(other))
			if found := strings.Compare(orderKey(one), orderKey(other)); found != wanted {
				t.Errorf("%s and %s: %d, not %d", one, other, found, wanted)
			}
		}
	}
	if orderKey("latest") != "" {
		t.Error("a word has a key")
	}
}

func TestARangeTakesWhatHelmTakes(t *testing.T) {
	versions := []string{"1.0.0", "1.2.0", "2.0.0-rc.1", "latest", "1.10.0", "0.9.0+a"}
	for wanted, chosen := range map[string]string{
		"": "1.10.0", "~1.2": "1.2.0", "^1": "1.10.0", ">0.0.0-0": "2.0.0-rc.1", "2.0.0-rc.1": "2.0.0-rc.1", "^3": "",
		"0.9.0+a": "0.9.0+a", "1.0": "1.0.0", "<1.0.0": "0.9.0+a",
	} {
		made, err := orderVersions(&orderVersionsRequest{Versions: versions, Wanted: wanted})
		if err != nil || made.Chosen != chosen || len(made.Keys) != len(versions) {
			t.Errorf("%q: %+v %v", wanted, made, err)
		}
	}
	if _, err := orderVersions(&orderVersionsRequest{Wanted: "not a range"}); err == nil || classify(err) != versionError {
		t.Error(err)
	}
}

// BenchmarkIndex reads an index of the size of Bitnami's: 15,000 entries, 15 MB.
func BenchmarkIndex(b *testing.B) {
	text := &strings.Builder{}
	text.WriteString("apiVersion: v1\nentries:\n")
	for chart := range 150 {
		fmt.Fprintf(text, "  chart%d:\n", chart)
		for version := range 100 {
			fmt.Fprintf(text, "  - annotations:\n      category: Database\n      images: |\n%s    apiVersion: v2\n",
				strings.Repeat("        - name: something\n          image: docker.io/some/thing:1.2.3-debian-12-r0\n", 7))
			fmt.Fprintf(text, "    appVersion: 1.%d.0\n    created: \"2026-01-02T03:04:05.678Z\"\n    name: chart%d\n", version, chart)
			fmt.Fprintf(text, "    description: %s\n    version: %d.%d.0\n", strings.Repeat("words ", 20), version/10, version)
			fmt.Fprintf(text, "    digest: %064d\n    maintainers:\n    - name: someone\n      url: https://example.com\n", version)
			fmt.Fprintf(text, "    urls:\n    - https://example.com/chart%d-%d.tgz\n", chart, version)
		}
	}
	data := []byte(text.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		made, err := readIndex(&readIndexRequest{Index: data})
		if err != nil || made.Count != 15000 {
			b.Fatal(err)
		}
	}
}
