package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
)

const (
	// valuesError is the kind of values that cannot be read.
	valuesError = "HelmValuesError"
	// The limits of a body that holds values: src/pilothouse/http/json_bodies.py, RELEASE.
	mostValues = 50_000
	mostLevels = 100
)

// mergeValues is the call that only merges layers: it tells what is wrong with them before anything is queued.
func mergeValues(request *mergeValuesRequest) (*mergedValues, error) {
	merged, err := merge(nil, request.Layers)
	if err != nil {
		return nil, err
	}
	return &mergedValues{Values: merged}, nil
}

// merge returns the values with the layers over them, each by Helm's own parser (pkg/cli/values/options.go): what they
// make of a number decides how a template prints it.
func merge(below values, layers []valuesLayer) (values, error) {
	if len(layers) == 0 {
		return below, nil
	}
	merged := map[string]any(below)
	if merged == nil {
		merged = map[string]any{}
	}
	for _, layer := range layers {
		next, err := layer.over(merged)
		if err != nil {
			return nil, refusal{kind: valuesError, message: layer.Name + ": " + err.Error()}
		}
		merged = next
	}
	left := mostValues
	if err := limited(merged, "values", 0, &left); err != nil {
		return nil, err
	}
	return merged, nil
}

func (l valuesLayer) over(below map[string]any) (map[string]any, error) {
	switch l.Kind {
	case "yaml":
		read, err := loader.LoadValues(strings.NewReader(l.Text))
		if err != nil {
			return nil, err
		}
		return loader.MergeMaps(below, read), nil
	case "object":
		var read values
		if err := json.Unmarshal([]byte(l.Text), &read); err != nil {
			return nil, err
		}
		return loader.MergeMaps(below, read), nil
	case "set_json":
		return l.overJSON(below)
	}
	parse := map[string]func(string, map[string]any) error{
		"set": strvals.ParseInto, "set_string": strvals.ParseIntoString, "set_literal": strvals.ParseLiteralInto,
	}[l.Kind]
	if parse == nil {
		return nil, fmt.Errorf("the kind of layer %q is not known", l.Kind)
	}
	if err := parse(l.Text, below); err != nil {
		return nil, fmt.Errorf("failed parsing --%s data: %w", strings.ReplaceAll(l.Kind, "_", "-"), err)
	}
	return below, nil
}

// overJSON leaves the data out of the error, other than Helm: it can be a secret.
func (l valuesLayer) overJSON(below map[string]any) (map[string]any, error) {
	text := strings.TrimSpace(l.Text)
	if strings.HasPrefix(text, "{") {
		var read map[string]any
		if err := json.Unmarshal([]byte(text), &read); err != nil {
			return nil, fmt.Errorf("failed parsing --set-json data JSON: %w", err)
		}
		return loader.MergeMaps(below, read), nil
	}
	if err := strvals.ParseJSON(l.Text, below); err != nil {
		return nil, fmt.Errorf("failed parsing --set-json data: %w", err)
	}
	return below, nil
}

// limited refuses what a few characters of a layer can become: aliases of YAML, and indices of --set.
func limited(value any, where string, level int, left *int) error {
	if *left--; *left < 0 {
		return refusal{kind: valuesError, message: fmt.Sprintf("the layers make more than %d values, the limit", mostValues)}
	}
	if level > mostLevels {
		return refusal{kind: valuesError, message: fmt.Sprintf("the values are nested in more than %d levels, the limit", mostLevels)}
	}
	switch typed := value.(type) {
	case string:
		return withoutNul(typed, where)
	case map[string]any:
		for key, item := range typed {
			if err := withoutNul(key, where); err != nil {
				return err
			}
			if err := limited(item, where+"."+key, level+1, left); err != nil {
				return err
			}
		}
	case []any:
		for index, item := range typed {
			if err := limited(item, fmt.Sprintf("%s[%d]", where, index), level+1, left); err != nil {
				return err
			}
		}
	}
	return nil
}

func withoutNul(text, where string) error {
	if strings.ContainsRune(text, 0) {
		return refusal{kind: valuesError, message: where + ": contains a NUL character, which Kubernetes cannot store"}
	}
	return nil
}
