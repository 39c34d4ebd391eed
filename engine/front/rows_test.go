package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

const (
	listed = `{"columns":["cluster_id","cluster_name","namespace","name","revision","status","chart_name","chart_version",` +
		`"app_version","updated_at","update_available","update_deprecated"],"rows":[` +
		`["1","c","n","web",12,"deployed","nginx","1.0","","2026-11-30T05:00:00.123456+00:00","",false],` +
		`["1","c","n","longer",3,"failed","nginx","","2 ","2026-11-30T05:00:00.123456+00:00","2.0",true]]}`
	printed = "NAME    NAMESPACE  REVISION  UPDATED               STATUS    CHART      APP VERSION  UPDATE\n" +
		"web     n          12        2026-11-30T05:00:00Z  deployed  nginx-1.0\n" +
		"longer  n          3         2026-11-30T05:00:00Z  failed    nginx      2            2.0 (deprecated)\n"
)

func TestRowsBecomeATable(t *testing.T) {
	rows, err := appendRows(nil, listed)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := table(rows, true, false, &out); err != nil || out.String() != printed {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func TestClustersAreToldApart(t *testing.T) {
	rows, err := appendRows(nil, strings.Replace(listed, `["1","c"`, `["2","d"`, 1))
	var out bytes.Buffer
	if err = errors.Join(err, table(rows, false, false, &out)); err != nil || !strings.HasPrefix(out.String(), "web     d  ") {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func TestClustersThatAreAskedForAndSourcesAreTold(t *testing.T) {
	text := strings.NewReplacer(`"update_available",`, `"source","update_available",`, `"",false`, `"team","",false`,
		`"2.0",true`, `"","2.0",true`).Replace(listed)
	rows, err := appendRows(nil, text)
	wanted := "NAME    CLUSTER  NAMESPACE  REVISION  UPDATED               STATUS    CHART      APP VERSION  SOURCE  UPDATE\n" +
		"web     c        n          12        2026-11-30T05:00:00Z  deployed  nginx-1.0               team\n" +
		"longer  c        n          3         2026-11-30T05:00:00Z  failed    nginx      2                    2.0 (deprecated)\n"
	var out bytes.Buffer
	if err = errors.Join(err, table(rows, true, true, &out)); err != nil || out.String() != wanted {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func TestASourceThatWasRemovedIsToldAndItsUpdatesAreNotKnown(t *testing.T) {
	text := strings.NewReplacer(`"update_available",`, `"source","source_removed_at","update_available",`,
		`"",false`, `"team","2026-11-30T05:00:00.123456+00:00","",false`, `"2.0",true`, `"other",null,"2.0",true`).Replace(listed)
	rows, err := appendRows(nil, text)
	wanted := "web     n  12  2026-11-30T05:00:00Z  deployed  nginx-1.0      team (removed)  unknown\n" +
		"longer  n  3   2026-11-30T05:00:00Z  failed    nginx      2   other           2.0 (deprecated)\n"
	var out bytes.Buffer
	if err = errors.Join(err, table(rows, false, false, &out)); err != nil || out.String() != wanted {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func TestAnEmptyListHasNoRows(t *testing.T) {
	if rows, err := appendRows(nil, `{"columns":["name"],"rows":[]}`); err != nil || len(rows) != 0 {
		t.Fatalf("%v, %v", rows, err)
	}
}

func TestRowsThatAreNotAsExpectedAreThePythonPrograms(t *testing.T) {
	for _, one := range []struct{ in, instead string }{
		{`"web"`, `"w\u0065b"`}, {`"web"`, `"w\"b"`}, {`"web"`, "null"}, {`"web"`, `""`}, {`"web"`, `"web`}, {"12", "-1"},
		{"12", "1.5"}, {"12", `"12"`}, {"false", "0"}, {`"status"`, `"labels"`}, {`["cluster_id"`, `[ "cluster_id"`},
		{"]]}", "]"}, {"]]}", "]]"}, {"]]}", "]]}}"}, {"],", "]"}, {"],", "],,"}, {`"1",`, ""}, {`,false]`, "]"}, {`,false]`, `,false,""]`},
		{`"cluster_id",`, ""}, {listed, ""}, {listed, "[]"}, {listed, "{}"}, {listed, `{"columns":["name"],"rows":[[]]}`},
	} {
		rows, err := appendRows(nil, strings.Replace(listed, one.in, one.instead, 1))
		if !errors.Is(err, errUnusual) {
			t.Errorf("%s in place of %s: %v, %v", one.instead, one.in, rows, err)
		}
	}
}

func TestATableOfWhatIsNotInstalledOrNotPlainIsThePythonPrograms(t *testing.T) {
	for _, one := range []struct{ in, instead string }{{"12", "0"}, {"nginx", "ngin\u00e9"}, {"nginx", "\x1b[1m"}} {
		rows, err := appendRows(nil, strings.Replace(listed, one.in, one.instead, 1))
		if err != nil {
			t.Fatalf("%s: %v", one.instead, err)
		}
		if err := table(rows, true, false, new(bytes.Buffer)); !errors.Is(err, errUnusual) {
			t.Errorf("%s in place of %s: %v", one.instead, one.in, err)
		}
	}
}

func BenchmarkATableOfThousandRows(b *testing.B) {
	head, rest, _ := strings.Cut(listed, `"rows":[`)
	one := strings.TrimSuffix(rest, "]}")
	text := head + `"rows":[` + strings.Repeat(one+",", 499) + one + "]}"
	for b.Loop() {
		rows, err := appendRows(nil, text)
		if err = errors.Join(err, table(rows, true, false, new(bytes.Buffer))); err != nil {
			b.Fatal(err)
		}
	}
}
