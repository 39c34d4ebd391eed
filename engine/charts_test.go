package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestAChartIsLoadedAnewEachTime(t *testing.T) {
	reading := &charts{limits: limits()}
	archive := packChart(t, map[string]string{"values.yaml": "a: 1\n"})
	first, err := reading.load(archive, true, true)
	must(t, err)
	first.Values["a"] = "changed"
	second, err := reading.load(archive, true, true)
	must(t, err)
	if second.Values["a"] != 1.0 {
		t.Fatal(second.Values)
	}
}

func TestLimitsCountArchivesInArchivesTogether(t *testing.T) {
	inner := string(packChart(t, map[string]string{"blob": strings.Repeat("x", 4<<20)}))
	files := map[string]string{}
	for number := range 4 {
		files[fmt.Sprintf("charts/s%d.tgz", number)] = inner
	}
	archive := packChart(t, files)
	if len(archive) > 100_000 {
		t.Fatal(len(archive))
	}
	small := limits()
	small.ChartUnpackedBytes = 12 << 20
	_, err := (&charts{limits: small}).load(archive, true, true)
	refusedWith(t, err, chartLoadError, "unpacks to more than 12582912 bytes")
}

func TestWhatIsOverALimitIsRefused(t *testing.T) {
	nested := packChart(t, map[string]string{})
	for range 3 {
		nested = packChart(t, map[string]string{"charts/in.tgz": string(nested)})
	}
	for _, one := range []struct {
		archive []byte
		change  func(*options)
		text    string
	}{
		{nested, func(o *options) { o.ChartDepth = 2 }, "more than 2 deep, the limit"},
		{packChart(t, map[string]string{"a": "", "b": ""}), func(o *options) { o.ChartFiles = 2 }, "more than 2 files"},
		{packChart(t, map[string]string{"a": "12345"}), func(o *options) { o.ChartFileBytes = 4 }, "the limit for one file is 4"},
		{[]byte{}, func(*options) {}, "empty"},
		{[]byte("hello"), func(*options) {}, "not a gzip file"},
		{packChart(t, map[string]string{})[:60], func(*options) {}, "unexpected EOF"},
	} {
		own := limits()
		one.change(&own)
		_, err := (&charts{limits: own}).load(one.archive, true, true)
		refusedWith(t, err, chartLoadError, one.text)
	}
}

func TestWhatHelmTakesForNoSubchartIsNoArchive(t *testing.T) {
	archive := packChart(t, map[string]string{
		"charts/_off.tgz": "no archive", "charts/.off.tgz": "neither", "docs/x.tgz": "nor this", "docs/charts/x.tgz": "nor this",
	})
	_, err := (&charts{limits: limits()}).load(archive, true, true)
	must(t, err)
}

const remote = "http://127.0.0.1:9/schema.json"

func TestASchemaThatLeadsElsewhereIsRefusedWhereverItLies(t *testing.T) {
	for _, schema := range []string{
		`{"$ref":"` + remote + `"}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"other.json"}`,
		`{"$id":"http://127.0.0.1:9/","$ref":"other.json"}`, `{"properties":{"a":{"items":{"$ref":"` + remote + `"}}}}`,
		`{"$dynamicRef":"` + remote + `"}`, `{"$schema":"` + remote + `"}`, `{"\u0024ref":"http:\/\/127.0.0.1:9/x"}`,
		"\ufeff" + `{"$ref":"` + remote + `"}`,
	} {
		inner := map[string]string{schemaFile: schema}
		for place, archive := range map[string][]byte{
			"root":     packChart(t, map[string]string{schemaFile: schema}),
			"packed":   packChart(t, map[string]string{"charts/in.tgz": string(packChart(t, inner))}),
			"unpacked": packChart(t, map[string]string{"charts/in/Chart.yaml": "", "charts/in/" + schemaFile: schema}),
		} {
			t.Run(place+" "+schema, func(t *testing.T) {
				refusedWith(t, (&charts{limits: limits()}).check(archive), chartLoadError, "only references within the file")
			})
		}
	}
}

func TestASchemaThatIsNotLookedAtMayLeadAnywhere(t *testing.T) {
	archive := packChart(t, map[string]string{schemaFile: `{"$ref":"` + remote + `"}`})
	reading := &charts{limits: limits()}
	_, err := reading.load(archive, true, false)
	must(t, err)
	_, err = reading.load(archive, true, true)
	refusedWith(t, err, chartLoadError, "only references within the file")
}

func TestASchemaThatHoldsAllThatItRefersToIsTaken(t *testing.T) {
	for _, schema := range []string{
		`{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/a","definitions":{"a":{}}}`,
		`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}`,
		`{"properties":{"$ref":{"type":"string"}}}`,
		`{"$id":"http://example.com/values.json","type":"object"}`,
		`{"$id":"http://example.com/a.json","$ref":"b.json","$defs":{"b":{"$id":"b.json","type":"object"}}}`,
		`no JSON`,
	} {
		must(t, (&charts{limits: limits()}).check(packChart(t, map[string]string{schemaFile: schema})))
	}
}

func TestALibraryChartIsRefused(t *testing.T) {
	archive := packChart(t, map[string]string{"Chart.yaml": "apiVersion: v2\nname: d\nversion: 0.1.0\ntype: library\n"})
	_, err := (&charts{limits: limits()}).load(archive, true, true)
	refusedWith(t, err, chartInvalidError, "library chart")
}

func TestHooksCanBeShownAsObjects(t *testing.T) {
	archive := packChart(t, map[string]string{"templates/a.yaml": "metadata: {annotations: {helm.sh/hook: x}}"})
	loaded, err := (&charts{limits: limits()}).load(archive, false, true)
	must(t, err)
	if strings.Contains(string(loaded.Templates[0].Data), hookAnnotation) {
		t.Fatal(string(loaded.Templates[0].Data))
	}
}
