package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	releasev1 "helm.sh/helm/v4/pkg/release/v1"
)

// asked returns what the command line is answered.
func asked(request string) (string, error) {
	var out strings.Builder
	err := local(strings.NewReader(request), &out)
	return out.String(), err
}

func TestARequestOfTheCommandLineThatIsNoneIsRefused(t *testing.T) {
	for request, text := range map[string]string{
		`{"action":"lint"}`:                          "no chart is named",
		`{"action":"burn","paths":["x"]}`:            "no such action",
		`{"action":"lint","paths":["x"],"other":1}`:  "unknown field",
		`{"action":"template","paths":["/no/where"]`: "unexpected EOF",
	} {
		if _, err := asked(request); err == nil || !strings.Contains(err.Error(), text) {
			t.Error(request, err)
		}
	}
}

func TestAnArgumentThatIsWrongIsToldApartFromAChart(t *testing.T) {
	folder := folderOf(t, map[string]string{"Chart.yaml": "apiVersion: v2\nname: demo\nversion: 0.1.0\ntype: library\n"})
	for request, usage := range map[string]bool{
		`{"action":"name","template":{"name":"{{"}}`:                                                  true,
		`{"action":"lint","paths":["` + folder + `"],"kube_version":"x"}`:                             true,
		`{"action":"template","paths":["` + folder + `"],"kube_version":"x"}`:                         true,
		`{"action":"template","paths":["` + folder + `"],"values":[{"kind":"set","text":"a[-1]=x"}]}`: true,
		`{"action":"template","paths":["` + folder + `"]}`:                                            false, // a library
		`{"action":"pack","paths":["` + folder + `/none"]}`:                                           false,
	} {
		_, err := asked(request)
		if wrong := (usageError{}); err == nil || errors.As(err, &wrong) != usage {
			t.Error(request, err)
		}
	}
	if name, err := asked(`{"action":"name","template":{"name":"web-{{ upper \"x\" }}"}}`); err != nil || name != "web-X" {
		t.Error(name, err)
	}
}

// folderOf returns a folder with the files.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		path := filepath.Join(folder, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return folder
}

func TestSubchartsAreFoundInFoldersAndArchives(t *testing.T) {
	folder := folderOf(t, map[string]string{
		"Chart.yaml": "", "charts/a/Chart.yaml": "", "charts/a/charts/b/Chart.yaml": "", "charts/c.tgz": "",
		"charts/d.tar.gz": "", "charts/notes.txt": "",
	})
	found := subchartsOf([]string{folder, filepath.Join(folder, "charts", "none")})
	wanted := []string{"a", "a/charts/b", "c.tgz", "d.tar.gz"}
	for index, name := range wanted {
		wanted[index] = filepath.Join(folder, "charts", name)
	}
	if slices.Sort(found); !slices.Equal(found, wanted) {
		t.Error(found)
	}
}

func TestOnlyWhatIsWantedOfAReleaseIsPrinted(t *testing.T) {
	hook := func(path string, events ...releasev1.HookEvent) *releasev1.Hook {
		return &releasev1.Hook{Path: path, Manifest: "hook: " + filepath.Base(path), Events: events}
	}
	made := &releasev1.Release{
		Manifest: "---\n# Source: demo/templates/a.yaml\na: 1\n---\n# Source: demo/templates/sub/b.yaml\nb: 1\n",
		Hooks: []*releasev1.Hook{
			hook("demo/templates/h.yaml", releasev1.HookPreInstall), hook("demo/templates/t.yaml", releasev1.HookTest),
		},
	}
	for name, one := range map[string]struct {
		showOnly           []string
		noHooks, skipTests bool
		there, missing     []string
	}{
		"all":           {nil, false, false, []string{"a: 1", "b: 1", "h.yaml", "t.yaml"}, nil},
		"no hooks":      {nil, true, false, []string{"a: 1", "b: 1"}, []string{"h.yaml", "t.yaml"}},
		"no tests":      {nil, false, true, []string{"a: 1", "h.yaml"}, []string{"t.yaml"}},
		"one":           {[]string{"templates/a.yaml"}, false, false, []string{"a: 1"}, []string{"b: 1", "h.yaml"}},
		"of a folder":   {[]string{"templates/*/*.yaml"}, false, false, []string{"b: 1"}, []string{"a: 1", "t.yaml"}},
		"a hook":        {[]string{"templates/h.yaml"}, false, false, []string{"hook: h.yaml"}, []string{"a: 1"}},
		"two, in order": {[]string{"templates/sub/b.yaml", "templates/a.yaml"}, false, false, []string{"b: 1", "a: 1"}, nil},
	} {
		var request localRequest
		request.Template.ShowOnly, request.Template.NoHooks, request.Template.SkipTests = one.showOnly, one.noHooks, one.skipTests
		var out strings.Builder
		must(t, printRendered(made, &request, &out))
		at := 0
		for _, text := range one.there {
			next := strings.Index(out.String()[at:], text)
			if next < 0 {
				t.Errorf("%s: no %q after %d in\n%s", name, text, at, out.String())
			}
			at += max(next, 0)
		}
		for _, text := range one.missing {
			if strings.Contains(out.String(), text) {
				t.Errorf("%s: %q in\n%s", name, text, out.String())
			}
		}
	}
	var request localRequest
	request.Template.ShowOnly = []string{"templates/none.yaml"}
	err := printRendered(made, &request, &strings.Builder{})
	if err == nil || err.Error() != "could not find template templates/none.yaml in chart" {
		t.Error(err)
	}
}
