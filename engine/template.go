package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
)

// unnamed is how Helm's template command calls a release without a name.
const unnamed = "release-name"

// renderRelease returns what "helm template" prints of a chart: without a cluster, or with what a cluster serves and has.
func (e *engine) renderRelease(request *renderRequest, during call, progress *progress) (*renderOutcome, error) {
	loaded, err := e.charts.load(request.Chart, true, !request.SkipSchemaValidation)
	if err != nil {
		return nil, err
	}
	given, err := merge(request.Values, request.Layers)
	if err != nil {
		return nil, err
	}
	configuration := action.NewConfiguration()
	strategy := action.DryRunStrategy(dryRunClient)
	if request.Kubeconfig != "" {
		running, err := e.begin(request.Kubeconfig, request.Namespace, request.ReleaseName, during, progress)
		if err != nil {
			return nil, err
		}
		defer running.cluster.release()
		if err := running.reach(); err != nil {
			return nil, fmt.Errorf("cluster reachability check failed: %w", err)
		}
		running.objects.looks = true
		running.foresee(loaded)
		configuration, strategy = running.configuration, "server"
	}
	helm := action.NewInstall(configuration)
	helm.Namespace, helm.DryRunStrategy, helm.Replace = request.Namespace, strategy, true
	if helm.ReleaseName, err = request.name(); err != nil {
		return nil, err
	}
	if helm.KubeVersion, err = kubeVersion(request.KubeVersion); err != nil {
		return nil, err
	}
	helm.APIVersions, helm.IncludeCRDs, helm.IsUpgrade = request.APIVersions, request.IncludeCRDs, request.IsUpgrade
	helm.DisableHooks, helm.DisableOpenAPIValidation = request.DisableHooks, true
	helm.SkipSchemaValidation = request.SkipSchemaValidation
	made, err := helm.Run(loaded, given)
	if err != nil {
		return nil, err
	}
	stored, is := made.(*releasev1.Release)
	if !is {
		return nil, fmt.Errorf("a release of another kind: %T", made)
	}
	rendered := &renderOutcome{Name: stored.Name, Manifest: stored.Manifest, Notes: stored.Info.Notes, Hooks: []*releasev1.Hook{}}
	for _, hook := range stored.Hooks {
		if !request.DisableHooks && !(request.SkipTests && slices.Contains(hook.Events, releasev1.HookTest)) {
			rendered.Hooks = append(rendered.Hooks, hook)
		}
	}
	return rendered, rendered.keepOnly(request.ShowOnly)
}

// name returns the name of the release: that of the request, or of its template.
func (r *renderRequest) name() (string, error) {
	switch {
	case r.NameTemplate != "":
		return renderName(&renderNameRequest{Template: r.NameTemplate})
	case r.ReleaseName != "":
		return r.ReleaseName, nil
	}
	return unnamed, nil
}

// keepOnly leaves what comes from templates that match a pattern, in the order of the patterns.
func (r *renderOutcome) keepOnly(patterns []string) error {
	if len(patterns) == 0 {
		return nil
	}
	var manifest strings.Builder
	hooks := []*releasev1.Hook{}
	for _, pattern := range patterns {
		missing := true
		for _, one := range sourcesOf(r.Manifest) {
			if matches(pattern, one.path) {
				missing = false
				fmt.Fprintf(&manifest, "---\n%s%s\n%s\n", sourceMark, one.path, one.content)
			}
		}
		for _, hook := range r.Hooks {
			if matches(pattern, hook.Path) {
				missing = false
				hooks = append(hooks, hook)
			}
		}
		if missing {
			return refusal{kind: renderError, message: fmt.Sprintf("could not find template %s in chart", pattern)}
		}
	}
	r.Manifest, r.Hooks = manifest.String(), hooks
	return nil
}

func matches(pattern, source string) bool {
	_, inside, _ := strings.Cut(source, "/")
	matched, err := path.Match(pattern, inside)
	return matched && err == nil
}
