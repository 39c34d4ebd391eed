package main

import (
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
)

func settings(name, more string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\ndata:\n  text: " + more
}

// tricky is a chart with everything that a second rendering or a second reading could change.
func tricky() map[string]string {
	hook := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: hook\n  annotations:\n    helm.sh/hook: pre-install,pre-upgrade\n    helm.sh/hook-weight: \"-5\"\n"
	return map[string]string{
		"Chart.yaml":                                         "apiVersion: v2\nname: demo\nversion: 0.1.0\ndependencies:\n- name: sub\n  version: 0.1.0\n  condition: sub.enabled\n- name: idle\n  version: 0.1.0\n  condition: idle.enabled\n",
		"values.yaml":                                        "sub: {enabled: true}\nidle: {enabled: false}\n",
		"charts/sub/Chart.yaml":                              "apiVersion: v2\nname: sub\nversion: 0.1.0\n",
		"charts/sub/templates/one.yaml":                      settings("sub", "{{ randAlphaNum 20 }}\n"),
		"charts/idle/Chart.yaml":                             "apiVersion: v2\nname: idle\nversion: 0.1.0\n",
		"charts/idle/templates/one.yaml":                     settings("idle", "x\n"),
		"templates/_helpers.tpl":                             `{{ define "demo.text" }}{{ randAlphaNum 20 }}{{ end }}`,
		"templates/random.yaml":                              "apiVersion: v1\nkind: Secret\nmetadata:\n  name: random\nstringData:\n  key: {{ include \"demo.text\" . }}",
		"templates/mixed.yaml":                               settings("a", "{{ randAlphaNum 9 }}\n") + "---\n" + hook + "---   \n" + settings("b", "x\n") + "--- # said\napiVersion: v1\nkind: Service\nmetadata:\n  name: s\n---\n# only words\n---\n" + settings("c", "\"é \\\"quoted\\\" `back` \\\\ {{ \"{{\" }} }}\""),
		"templates/crlf.yaml":                                strings.ReplaceAll(settings("crlf", "x\n"), "\n", "\r\n") + "\r\n---\r\n" + settings("d", "|\n    one\n\n\n"),
		"templates/absent.yaml":                              settings("absent", "\"{{ .Values.nothing }}\""),
		"templates/tests/test.yaml":                          strings.ReplaceAll(hook, "pre-install,pre-upgrade", "test"),
		"templates/" + strings.Repeat("d/", 3) + "deep.yaml": settings("deep", "x"),
		"templates/empty.yaml":                               "{{ if false }}x{{ end }}\n",
		"templates/NOTES.txt":                                "Key {{ randAlphaNum 9 }}, {{ \"{{ .Values }}\" }}, \xff \"x\"\n",
	}
}

func loadedChart(t *testing.T, archive []byte) *chart.Chart {
	t.Helper()
	loaded, err := (&charts{limits: limits()}).load(archive, true, true)
	must(t, err)
	return loaded
}

func renderedBy(t *testing.T, loaded *chart.Chart) *releasev1.Release {
	t.Helper()
	helm := action.NewInstall(action.NewConfiguration())
	helm.ReleaseName, helm.Namespace, helm.DryRunStrategy = "web", "shop", dryRunClient
	made, err := helm.Run(loaded, map[string]any{})
	must(t, err)
	return made.(*releasev1.Release)
}

func planOf(made *releasev1.Release) *plannedRelease {
	planned := &plannedRelease{Revision: made.Version, Manifest: made.Manifest, Notes: made.Info.Notes}
	for _, hook := range made.Hooks {
		planned.Hooks = append(planned.Hooks, plannedHook{hook.Path, hook.Manifest})
	}
	return planned
}

func TestHelmMakesWhatWasPlannedToTheByte(t *testing.T) {
	archive := packChart(t, tricky())
	planned := planOf(renderedBy(t, loadedChart(t, archive)))
	if len(planned.Hooks) != 2 || strings.Count(planned.Manifest, sourceMark) != 11 || planned.Notes == "" {
		t.Fatalf("%d hooks, %s", len(planned.Hooks), planned.Manifest)
	}
	if planned.compare(renderedBy(t, loadedChart(t, archive))) == nil {
		t.Fatal("random values are the same in two renderings")
	}
	again, fresh := loadedChart(t, archive), loadedChart(t, archive)
	restore, err := planned.handOver(again)
	must(t, err)
	made := renderedBy(t, again)
	must(t, planned.compare(made))
	restore()
	renderedBy(t, fresh) // what Helm itself changes in a chart
	if len(again.Templates) != 9 {
		t.Fatal("the stored chart lacks templates of its own")
	}
	if string(jsonOf(again)) != string(jsonOf(fresh)) {
		t.Fatal("the stored chart is another one")
	}
}

func TestARevisionThatIsNotThePlannedOneIsRefused(t *testing.T) {
	archive := packChart(t, tricky())
	for what, change := range map[string]func(*plannedRelease){
		"the next revision is 1 by now, not 3": func(p *plannedRelease) { p.Revision = 3 },
		"the manifest would be another one":    func(p *plannedRelease) { p.Manifest += "# more\n" },
		"the hooks would be others":            func(p *plannedRelease) { p.Hooks = p.Hooks[1:] },
		"the notes would be others":            func(p *plannedRelease) { p.Notes += "." },
	} {
		made := renderedBy(t, loadedChart(t, archive))
		planned := planOf(made)
		change(planned)
		refusedWith(t, planned.compare(made), "HelmPlanError", what+"; plan again")
	}
}

func TestAPlanOfAnotherChartIsRefused(t *testing.T) {
	archive := packChart(t, tricky())
	planned := &plannedRelease{Manifest: "---\n# Source: other/templates/a.yaml\nkind: A\n\n"}
	_, err := planned.handOver(loadedChart(t, archive))
	refusedWith(t, err, "HelmPlanError", `the template "other/templates/a.yaml", which is of another chart`)
}

func rendered(t *testing.T, request renderRequest) (*renderOutcome, error) {
	t.Helper()
	request.Chart, request.Namespace = packChart(t, map[string]string{
		"crds/own.yaml":         ownCRD,
		"templates/a.yaml":      settings("{{ .Release.Name }}", "{{ .Capabilities.KubeVersion }} {{ .Capabilities.APIVersions.Has \"x/v1\" }} {{ .Release.IsUpgrade }}"),
		"templates/b/hook.yaml": tricky()["templates/tests/test.yaml"],
	}), "shop"
	_, theirs := channels(t)
	_ = theirs
	ours, _ := channels(t)
	return newEngine(limits(), nil).renderRelease(&request, call{}, newProgress(ours, false))
}

func TestAChartIsRenderedWithoutACluster(t *testing.T) {
	made, err := rendered(t, renderRequest{
		NameTemplate: "web-{{ lower \"X\" }}", KubeVersion: "1.27.3", APIVersions: []string{"x/v1"}, IsUpgrade: true,
		IncludeCRDs: true,
	})
	must(t, err)
	if made.Name != "web-x" || !strings.Contains(made.Manifest, "text: v1.27.3 true true") || len(made.Hooks) != 1 ||
		!strings.Contains(made.Manifest, "widgets.example.com") {
		t.Fatalf("%+v", made)
	}
	made, err = rendered(t, renderRequest{SkipTests: true})
	must(t, err)
	if made.Name != unnamed || len(made.Hooks) != 0 || strings.Contains(made.Manifest, "widgets") {
		t.Fatalf("%+v", made)
	}
}

func TestOnlyTheTemplatesOfAPatternAreShown(t *testing.T) {
	made, err := rendered(t, renderRequest{ShowOnly: []string{"templates/b/*.yaml"}})
	must(t, err)
	if made.Manifest != "" || len(made.Hooks) != 1 {
		t.Fatalf("%+v", made)
	}
	_, err = rendered(t, renderRequest{ShowOnly: []string{"templates/*.yaml", "templates/c.yaml"}})
	refusedWith(t, err, "HelmRenderError", "could not find template templates/c.yaml in chart")
	_, err = rendered(t, renderRequest{KubeVersion: "new"})
	refusedWith(t, err, "HelmReleaseError", "invalid kube version 'new'")
}
