package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestLayersLieOverEachOtherAsHelmLaysThem(t *testing.T) {
	for name, one := range map[string]struct {
		below  string
		layers []valuesLayer
		wanted string
	}{
		"none":         {`{"a":1}`, nil, `{"a":1}`},
		"yaml":         {`{"a":{"b":1,"c":2}}`, []valuesLayer{{Kind: "yaml", Text: "a: {b: 3}"}}, `{"a":{"b":3,"c":2}}`},
		"null":         {`{"a":{"b":1}}`, []valuesLayer{{Kind: "yaml", Text: "a: null"}}, `{"a":null}`},
		"object":       {`{"a":1}`, []valuesLayer{{Kind: "object", Text: `{"b":2}`}}, `{"a":1,"b":2}`},
		"set":          {`{}`, []valuesLayer{{Kind: "set", Text: "a.b=1,c[1]=x"}}, `{"a":{"b":1},"c":[null,"x"]}`},
		"set_string":   {`{}`, []valuesLayer{{Kind: "set_string", Text: "a=1"}}, `{"a":"1"}`},
		"set_literal":  {`{}`, []valuesLayer{{Kind: "set_literal", Text: "a=1,b=2"}}, `{"a":"1,b=2"}`},
		"set_json":     {`{}`, []valuesLayer{{Kind: "set_json", Text: `a={"b":[1]}`}}, `{"a":{"b":[1]}}`},
		"a whole one":  {`{"a":1}`, []valuesLayer{{Kind: "set_json", Text: ` {"b":2}`}}, `{"a":1,"b":2}`},
		"the last one": {`{}`, []valuesLayer{{Kind: "set", Text: "a=1"}, {Kind: "yaml", Text: "a: 2"}}, `{"a":2}`},
	} {
		var below values
		must(t, json.Unmarshal([]byte(one.below), &below))
		merged, err := merge(below, one.layers)
		must(t, err)
		if found, _ := json.Marshal(merged); string(found) != one.wanted {
			t.Errorf("%s: %s, not %s", name, found, one.wanted)
		}
	}
}

func TestALayerThatCannotBeReadIsNamedAndNotShown(t *testing.T) {
	for _, one := range []valuesLayer{
		{Kind: "yaml", Text: "a: [", Name: "prod.yaml"},
		{Kind: "object", Text: `{"a"`, Name: "prod.yaml"},
		{Kind: "object", Text: `{"a":123456789012345678901234567890}`, Name: "prod.yaml"},
		{Kind: "set", Text: "a[-1]=hunter2", Name: "--set"},
		{Kind: "set_json", Text: `{"a":"hunter2"`, Name: "--set-json"},
		{Kind: "set_json", Text: "a={hunter2", Name: "--set-json"},
		{Kind: "other", Text: "hunter2", Name: "?"},
	} {
		_, err := merge(nil, []valuesLayer{one})
		refusedWith(t, err, valuesError, one.Name+": ")
		if one.Kind == "set_json" && strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	}
}

func TestWhatAFewCharactersBecomeIsLimited(t *testing.T) {
	deep := strings.Repeat("{a: ", mostLevels+1) + "1" + strings.Repeat("}", mostLevels+1)
	aliases := "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
	for _, name := range []string{"b", "c", "d", "e"} {
		before := string(name[0] - 1)
		aliases += name + ": &" + name + " [" + strings.Repeat("*"+before+",", 9) + "*" + before + "]\n"
	}
	for text, layer := range map[string]valuesLayer{
		"more than 50000 values":                {Kind: "set", Text: "a[50001]=1"},
		"the layers make more than":             {Kind: "object", Text: `{"a":[0` + strings.Repeat(",0", mostValues) + "]}"},
		"excessive aliasing":                    {Kind: "yaml", Text: aliases},
		"nested in more than 100 levels":        {Kind: "yaml", Text: "a: " + deep},
		"values.a[0]: contains a NUL character": {Kind: "object", Text: `{"a":["\u0000"]}`},
		"values.a: contains a NUL character":    {Kind: "object", Text: `{"a":{"\u0000":1}}`},
	} {
		_, err := merge(nil, []valuesLayer{layer})
		refusedWith(t, err, valuesError, text)
	}
}
