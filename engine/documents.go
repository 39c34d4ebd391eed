package main

import (
	"fmt"
	"regexp"
	"strings"

	release "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// document is one YAML document of a manifest, with the template that it comes from.
type document struct {
	text, source string
}

// identity is what names an object.
type identity struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string            `json:"name"`
		GenerateName string            `json:"generateName"`
		Namespace    string            `json:"namespace"`
		Annotations  map[string]string `json:"annotations"`
	} `json:"metadata"`
	Items []map[string]any `json:"items"`
}

func (i identity) groupKind() schema.GroupKind {
	return schema.FromAPIVersionAndKind(i.APIVersion, i.Kind).GroupKind()
}

func (i identity) version() string { return schema.FromAPIVersionAndKind(i.APIVersion, i.Kind).Version }

// problem says what an object lacks without which it cannot be applied, or be found again.
func (i identity) problem() string {
	switch {
	case i.Kind == "":
		return "has no kind"
	case i.APIVersion == "":
		return "has no apiVersion"
	case strings.HasSuffix(i.Kind, "List") && i.Items != nil:
		return ""
	case i.Metadata.Name == "" && i.Metadata.GenerateName != "":
		return "has generateName and no name, by which a release could find it again"
	case i.Metadata.Name == "":
		return "has no metadata.name"
	}
	return ""
}

func identify(text string) (identity, error) {
	var found identity
	err := yaml.Unmarshal([]byte(text), &found)
	return found, err
}

const sourceMark = "# Source: "

var separator = regexp.MustCompile(`(?m)^---(?:[ \t]|\r?$)`)

// documentsOf splits a manifest that Helm put together.
func documentsOf(manifest string) []document {
	var found []document
	for _, text := range separator.Split(manifest, -1) {
		source := ""
		for line := range strings.Lines(text) {
			if rest, marked := strings.CutPrefix(line, sourceMark); marked {
				source = strings.TrimSpace(rest)
				break
			}
		}
		if isEmpty(text) {
			continue
		}
		found = append(found, document{text: text, source: source})
	}
	return found
}

func isEmpty(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

// checkObjects refuses a release in which an object lacks what every object needs, its hooks included.
func checkObjects(manifest string, hooks []*release.Hook) error {
	documents := documentsOf(manifest)
	for _, hook := range hooks {
		documents = append(documents, document{text: hook.Manifest, source: hook.Path})
	}
	numbers := map[string]int{}
	for _, one := range documents {
		numbers[one.source]++
		found, err := identify(one.text)
		if err != nil {
			continue // Helm says what is wrong with it
		}
		problem := found.problem()
		if problem == "" {
			continue
		}
		kind := found.Kind
		if kind == "" {
			kind = "an object"
		}
		return refusal{
			kind: invalidObjectError,
			message: fmt.Sprintf("%s: document %d: %s %s; every object of a release needs apiVersion, kind and metadata.name",
				one.source, numbers[one.source], strings.TrimSpace(kind+" "+found.Metadata.Name), problem),
		}
	}
	return nil
}
