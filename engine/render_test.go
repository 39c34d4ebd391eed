package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const ownCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  versions:
    - {name: v1, served: true, storage: true}
    - {name: v1alpha1, served: false, storage: false}
`

func inspected(t *testing.T, files map[string]string) *inspection {
	t.Helper()
	found, err := newEngine(limits(), nil).inspect(&inspectRequest{
		Namespace: "shop", ReleaseName: "web", Chart: packChart(t, files), Values: values{"text": "x"}, Revision: 1,
	})
	must(t, err)
	return found
}

func TestObjectsAreFoundInDocumentsAndListsWithTheirNamespace(t *testing.T) {
	found := inspected(t, map[string]string{
		"templates/NOTES.txt": "kind: not an object\n",
		"templates/a.yaml": `apiVersion: v1
kind: ConfigMap
metadata: {name: one, annotations: {helm.sh/hook: "post-delete, post-install"}}
---
# nothing
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Secret, metadata: {name: two, namespace: other}}
---
apiVersion: batch/v1
kind: Job
metadata: {generateName: three-}
`,
	})
	wanted := []renderedObject{
		{"v1", "ConfigMap", "shop", "one", "post-delete, post-install", [][2]string{}},
		{"v1", "Secret", "other", "two", "", [][2]string{}},
		{"batch/v1", "Job", "shop", "", "", [][2]string{}},
	}
	if !reflect.DeepEqual(found.Objects, wanted) {
		t.Fatalf("%+v", found.Objects)
	}
}

func TestWhatIsNoObjectIsLeftToHelm(t *testing.T) {
	for _, text := range []string{"a: [", "just words", "- 1\n- 2\n", "kind: 7\napiVersion: v1\n"} {
		if found := inspected(t, map[string]string{"templates/a.yaml": text}).Objects; len(found) > 0 {
			t.Errorf("%q: %+v", text, found)
		}
	}
}

func TestACRDTellsWhichKindsItDefines(t *testing.T) {
	found := inspected(t, map[string]string{"templates/a.yaml": ownCRD}).Objects
	if len(found) != 1 || !reflect.DeepEqual(found[0].Defines, [][2]string{{"example.com/v1", "Widget"}}) {
		t.Fatalf("%+v", found)
	}
}

func TestOnlyServedVersionsOfTheChartsOwnKindsCount(t *testing.T) {
	found := inspected(t, map[string]string{
		"crds/a.yaml": ownCRD, "crds/b.yaml": "not: [yaml", "crds/c.yaml": "kind: Other\n",
	})
	if !reflect.DeepEqual(found.CRDKinds, [][2]string{{"example.com/v1", "Widget"}}) {
		t.Fatalf("%+v", found.CRDKinds)
	}
}

func TestSmallChartsAreNotMeasured(t *testing.T) {
	found := inspected(t, map[string]string{"templates/a.yaml": ""})
	if found.PackedBytes != 0 || found.UnpackedBytes != 0 || len(found.Parts) != 0 {
		t.Fatalf("%+v", found)
	}
}

func TestAChartThatPacksWellIsMeasuredByWhatItUnpacksTo(t *testing.T) {
	files := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		files[name] = strings.Repeat("\x00", 4_000_000)
	}
	found := inspected(t, files)
	inBase64 := 5 * 4_000_000 * 4 / 3
	if found.UnpackedBytes < inBase64 || found.UnpackedBytes > inBase64*101/100 || found.PackedBytes > 100_000 {
		t.Fatalf("%+v", found)
	}
}

func TestALargeChartIsMeasuredAsHelmPacksItWithoutWhatSubchartsHold(t *testing.T) {
	source := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 500_000)
	_, _ = source.Read(noise)
	more := bytes.Clone(noise)
	_, _ = source.Read(more)
	found := inspected(t, map[string]string{
		"noise.bin": string(noise), "charts/sub.tgz": string(packChart(t, map[string]string{"more.bin": string(more)})),
	})
	// base64 in JSON packs to about what it was, and is base64 again in the Secret
	if size := float64(found.PackedBytes) / (500_000.0 * 4 / 3); size < 1 || size > 1.05 {
		t.Fatal(size)
	}
	if found.Parts[0].Name != "file noise.bin" {
		t.Fatalf("%+v", found.Parts)
	}
}

func TestANameTemplateHasTheFunctionsOfAChartAndNoEnvironment(t *testing.T) {
	text, err := renderName(&renderNameRequest{Template: `{{ list "a" "b" | join "-" }}`})
	must(t, err)
	if text != "a-b" {
		t.Fatal(text)
	}
	_, err = renderName(&renderNameRequest{Template: `{{ env "HOME" }}`})
	refusedWith(t, err, renderError, `name_template:1): function "env" not defined`)
}

func TestLintSaysWhatHelmsDoesWithoutAPathOfTheServer(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "with space")
	must(t, os.Mkdir(folder, 0o700))
	t.Setenv("TMPDIR", folder)
	for _, one := range []struct {
		files map[string]string
		want  lintFinding
	}{
		{
			map[string]string{"templates/a.yaml": "{{ nope }}"},
			lintFinding{Severity: "error", Path: "templates/", Message: `parse error at (demo/templates/a.yaml:1): function "nope" not defined`},
		},
		{
			map[string]string{"Chart.yaml": "annotations: [a]\n"},
			lintFinding{Severity: "error", Message: "cannot load Chart.yaml"},
		},
	} {
		found, err := newEngine(limits(), nil).lint(&lintRequest{Chart: packChart(t, one.files)})
		must(t, err)
		matched := false
		for _, finding := range found.Findings {
			if strings.Contains(finding.Message, folder) || strings.Contains(finding.Path, folder) {
				t.Errorf("%+v", finding)
			}
			matched = matched || (finding.Severity == one.want.Severity && finding.Path == one.want.Path &&
				strings.Contains(finding.Message, one.want.Message))
		}
		if !matched {
			t.Errorf("%+v", found.Findings)
		}
	}
}
