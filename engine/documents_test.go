package main

import (
	"testing"

	release "helm.sh/helm/v4/pkg/release/v1"
)

const whole = "---\n# Source: d/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"

func TestAnObjectWithoutItsNamesIsRefusedWithItsPlace(t *testing.T) {
	for _, one := range []struct{ document, text string }{
		{"kind: ConfigMap\nmetadata: {name: b}\n", "d/templates/b.yaml: document 1: ConfigMap b has no apiVersion"},
		{"apiVersion: v1\nmetadata: {name: b}\n", "d/templates/b.yaml: document 1: an object b has no kind"},
		{"apiVersion: v1\nkind: ConfigMap\n", "d/templates/b.yaml: document 1: ConfigMap has no metadata.name"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {generateName: b-}\n", "Pod has generateName and no name"},
	} {
		refusedWith(t, checkObjects(whole+"---\n# Source: d/templates/b.yaml\n"+one.document, nil), invalidObjectError, one.text)
		hook := &release.Hook{Path: "d/templates/b.yaml", Manifest: one.document}
		refusedWith(t, checkObjects(whole, []*release.Hook{hook}), invalidObjectError, one.text)
	}
}

func TestWhatHelmAppliesIsNotRefused(t *testing.T) {
	for _, manifest := range []string{
		"", whole, whole + whole, "---\n# only a comment\n", "apiVersion: v1\nkind: List\nitems: []\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: |\n    ---x\n    -----BEGIN\n",
	} {
		must(t, checkObjects(manifest, nil))
	}
}

func TestDocumentsKnowTheirTemplates(t *testing.T) {
	found := documentsOf(whole + "--- # a comment\n# Source: d/templates/b.yaml\nkind: x\n")
	if len(found) != 2 || found[0].source != "d/templates/a.yaml" || found[1].source != "d/templates/b.yaml" {
		t.Fatalf("%+v", found)
	}
}
