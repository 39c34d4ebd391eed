package main

import "testing"

func TestATemplateDecidesTheNameBeforeTheRequestDoes(t *testing.T) {
	for wanted, request := range map[string]renderRequest{
		unnamed: {}, "web": {ReleaseName: "web"}, "made-X": {ReleaseName: "web", NameTemplate: `made-{{ upper "x" }}`},
	} {
		name, err := request.name()
		must(t, err)
		if name != wanted {
			t.Error(name, wanted)
		}
	}
	if _, err := (&renderRequest{ReleaseName: "web", NameTemplate: "{{"}).name(); err == nil {
		t.Error("a broken template")
	}
}

func TestAPatternMatchesBelowTheChart(t *testing.T) {
	for pattern, matched := range map[string]bool{
		"templates/a.yaml": true, "templates/*": true, "templates/b.yaml": false, "*": false, "demo/templates/a.yaml": false,
		"templates/[": false,
	} {
		if matches(pattern, "demo/templates/a.yaml") != matched {
			t.Error(pattern)
		}
	}
}
