package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func bodyOf(t *testing.T, words ...string) (string, error) {
	t.Helper()
	typed, err := parse(append([]string{"upgrade", "web", "./chart", "--install"}, words...))
	if err != nil {
		t.Fatal(err)
	}
	return typed.body()
}

func TestTheBodyIsThePythonPrograms(t *testing.T) {
	file := filepath.Join(t.TempDir(), "v.yaml")
	if err := os.WriteFile(file, []byte("a: \"é<&>\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		words []string
		body  string
	}{
		{nil, `"values":[],"values_mode":"reset_then_reuse","options":{"wait":"hooks"}`},
		{
			[]string{"--wait=none", "--create-namespace", "--reuse-values"},
			`"values":[],"values_mode":"reuse","options":{"create_namespace":true,"wait":"none"}`,
		},
		{
			[]string{"--set", "a=\x01\x08", "--set-json", `b=[1]`, "-f", file},
			`"values":[{"yaml":"a: \"é<&>\"\n","name":"` + file + `"},{"set_json":"b=[1]","name":"--set-json"},` +
				`{"set":"a=\u0001\b","name":"--set"}],"values_mode":"replace","options":{"wait":"hooks"}`,
		},
	} {
		if body, err := bodyOf(t, one.words...); err != nil || body != one.body {
			t.Errorf("%v: %v\n%s\n%s", one.words, err, body, one.body)
		}
	}
}

func TestTextsThatEncodersWriteDifferentlyAreThePythonPrograms(t *testing.T) {
	for _, text := range []string{"a=\u2028", "a=\xff"} {
		if body, err := bodyOf(t, "--set", text); !errors.Is(err, errUnusual) {
			t.Errorf("%q: %s", text, body)
		}
	}
}

func TestTheEngineIsInTheSameInstallation(t *testing.T) {
	prefix := t.TempDir()
	own := func() (string, error) { return filepath.Join(prefix, "bin", "pilothouse"), nil }
	if found, err := engine(own); !errors.Is(err, errUnusual) {
		t.Fatalf("found %s", found)
	}
	for _, folder := range []string{"lib/python3.11/site-packages", "lib/python3.12/site-packages"} {
		program := filepath.Join(prefix, folder, engineFile)
		if err := errors.Join(os.MkdirAll(filepath.Dir(program), 0o700), os.WriteFile(program, nil, 0o700)); err != nil {
			t.Fatal(err)
		}
		found, err := engine(own)
		if strings.Contains(folder, "3.11") != (err == nil && found == program) {
			t.Fatalf("of two there is no telling which: found %s, %v", found, err)
		}
	}
}
