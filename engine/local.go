package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	anychart "helm.sh/helm/v4/pkg/chart"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	release "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
)

// usageExit is what src/pilothouse/cli/local_charts.py knows wrong arguments by; 2 is how the Go runtime ends a panic.
const usageExit = 64

// usageError is what is wrong with an argument of the command line, other than with a chart.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// fixedTime stands in archives in place of the times of files, so that the same content has the same digest.
var fixedTime = time.Unix(0, 0)

var sourceOfManifest = regexp.MustCompile("# Source: [^/]+/(.+)")

// localRequest is what the command line asks about charts on the machine where it is typed: no server, no cluster.
type localRequest struct {
	Action string        `json:"action"`
	Paths  []string      `json:"paths"`
	Values []valuesLayer `json:"values"`
	// of pack
	Into string `json:"into"`
	// of show
	Format   action.ShowOutputFormat `json:"format"`
	JSONPath string                  `json:"json_path"`
	// of lint and template
	Namespace            string `json:"namespace"`
	KubeVersion          string `json:"kube_version"`
	SkipSchemaValidation bool   `json:"skip_schema_validation"`
	Strict               bool   `json:"strict"`
	Quiet                bool   `json:"quiet"`
	WithSubcharts        bool   `json:"with_subcharts"`
	Template             struct {
		Name        string   `json:"name"`
		APIVersions []string `json:"api_versions"`
		ShowOnly    []string `json:"show_only"`
		IncludeCRDs bool     `json:"include_crds"`
		SkipTests   bool     `json:"skip_tests"`
		NoHooks     bool     `json:"no_hooks"`
		IsUpgrade   bool     `json:"is_upgrade"`
		EnableDNS   bool     `json:"enable_dns"`
		Debug       bool     `json:"debug"`
	} `json:"template"`
}

// local prints what the request asks for, as the helm command does.
func local(given io.Reader, out io.Writer) error {
	var request localRequest
	decoder := json.NewDecoder(given)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return err
	}
	if len(request.Paths) == 0 && request.Action != "name" {
		return errors.New("no chart is named")
	}
	switch request.Action {
	case "name":
		name, err := renderName(&renderNameRequest{Template: request.Template.Name})
		if err != nil {
			return usageError{err}
		}
		_, err = io.WriteString(out, name)
		return err
	case "pack":
		return packLocal(request.Paths[0], request.Into, out)
	case "show":
		showing := action.NewShow(request.Format, new(action.Configuration))
		showing.JSONPathTemplate = request.JSONPath
		shown, err := showing.Run(request.Paths[0])
		if err != nil {
			return err
		}
		_, err = io.WriteString(out, shown)
		return err
	case "lint":
		return lintLocal(&request, out)
	case "template":
		return templateLocal(&request, out)
	}
	return fmt.Errorf("no such action: %q", request.Action)
}

// packLocal prints name and version of a chart; of a folder it also writes the archive, for which .helmignore counts.
func packLocal(path, into string, out io.Writer) error {
	loaded, err := loadInstallable(path)
	if err != nil {
		return err
	}
	file := path
	if into != "" {
		fixTimes(loaded)
		if file, err = chartutil.Save(loaded, into); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(map[string]string{
		"name": loaded.Name(), "version": loaded.Metadata.Version, "file": file,
	})
}

// loadInstallable returns the chart of a folder or archive, with all dependencies that it names.
func loadInstallable(path string) (*chart.Chart, error) {
	loaded, err := loader.Load(path)
	if err != nil {
		return nil, err
	}
	if kind := loaded.Metadata.Type; kind != "" && kind != "application" {
		return nil, fmt.Errorf("%s charts are not installable", kind)
	}
	wanted := make([]anychart.Dependency, 0, len(loaded.Metadata.Dependencies))
	for _, dependency := range loaded.Metadata.Dependencies {
		wanted = append(wanted, dependency)
	}
	if err := action.CheckDependencies(loaded, wanted); err != nil {
		return nil, fmt.Errorf("an error occurred while checking for chart dependencies. "+
			"You may need to run 'helm dependency build' to fetch missing dependencies: %w", err)
	}
	return loaded, nil
}

func fixTimes(loaded *chart.Chart) {
	loaded.ModTime, loaded.SchemaModTime = fixedTime, fixedTime
	if loaded.Lock != nil {
		loaded.Lock.Generated = loaded.Lock.Generated.UTC()
	}
	for _, files := range [][]*common.File{loaded.Raw, loaded.Templates, loaded.Files} {
		for _, file := range files {
			file.ModTime = fixedTime
		}
	}
	for _, dependency := range loaded.Dependencies() {
		fixTimes(dependency)
	}
}

// lintLocal prints what helm lint does, whose command is no function that could be called.
func lintLocal(request *localRequest, out io.Writer) error {
	linting := action.NewLint()
	linting.Strict, linting.Quiet, linting.WithSubcharts = request.Strict, request.Quiet, request.WithSubcharts
	linting.SkipSchemaValidation, linting.Namespace = request.SkipSchemaValidation, request.Namespace
	version, err := kubeVersion(request.KubeVersion)
	if err != nil {
		return usageError{err}
	}
	linting.KubeVersion = version
	merged, err := merge(nil, request.Values)
	if err != nil {
		return usageError{err}
	}
	paths := request.Paths
	if request.WithSubcharts {
		paths = append(paths, subchartsOf(paths)...)
	}
	failed, told := 0, 0
	for _, path := range paths {
		result := linting.Run([]string{path}, merged)
		if len(result.Errors) > 0 {
			failed++
		}
		noted := action.HasWarningsOrErrors(result)
		if noted {
			told++
		}
		if noted || !request.Quiet {
			printFindings(path, result, request.Quiet, out)
		}
	}
	summary := fmt.Sprintf("%d chart(s) linted, %d chart(s) failed", len(paths), failed)
	if failed > 0 {
		return errors.New(summary)
	}
	if !request.Quiet || told > 0 {
		fmt.Fprintln(out, summary)
	}
	return nil
}

func printFindings(path string, result *action.LintResult, quiet bool, out io.Writer) {
	fmt.Fprintf(out, "==> Linting %s\n", path)
	if len(result.Messages) == 0 {
		for _, err := range result.Errors {
			fmt.Fprintf(out, "Error %s\n", err)
		}
	}
	for _, message := range result.Messages {
		if !quiet || message.Severity > support.InfoSev {
			fmt.Fprintln(out, message)
		}
	}
	fmt.Fprintln(out)
}

func subchartsOf(paths []string) []string {
	var found []string
	for _, path := range paths {
		_ = filepath.WalkDir(filepath.Join(path, "charts"), func(inside string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
			case entry.Name() == chartutil.ChartfileName:
				found = append(found, filepath.Dir(inside))
			case strings.HasSuffix(inside, ".tgz"), strings.HasSuffix(inside, ".tar.gz"):
				found = append(found, inside)
			}
			return nil
		})
	}
	return found
}

func kubeVersion(given string) (*common.KubeVersion, error) {
	if given == "" {
		return nil, nil
	}
	version, err := common.ParseKubeVersion(given)
	if err != nil {
		return nil, fmt.Errorf("invalid kube version '%s': %w", given, err)
	}
	return version, nil
}

// templateLocal prints what helm template does.
func templateLocal(request *localRequest, out io.Writer) error {
	wanted := request.Template
	rendering := action.NewInstall(new(action.Configuration))
	rendering.DryRunStrategy, rendering.Replace = action.DryRunClient, true
	rendering.Namespace, rendering.SkipSchemaValidation = request.Namespace, request.SkipSchemaValidation
	rendering.IncludeCRDs, rendering.IsUpgrade = wanted.IncludeCRDs, wanted.IsUpgrade
	rendering.DisableHooks, rendering.EnableDNS = wanted.NoHooks, wanted.EnableDNS
	rendering.APIVersions = common.VersionSet(wanted.APIVersions)
	version, err := kubeVersion(request.KubeVersion)
	if err != nil {
		return usageError{err}
	}
	rendering.KubeVersion = version
	rendering.ReleaseName = wanted.Name
	merged, err := merge(nil, request.Values)
	if err != nil {
		return usageError{err}
	}
	loaded, err := loadInstallable(request.Paths[0])
	if err != nil {
		return err
	}
	made, err := rendering.Run(loaded, merged)
	stored, is := made.(*release.Release)
	switch {
	case err != nil && is && stored != nil && !wanted.Debug:
		return fmt.Errorf("%w\n\nUse --debug flag to render out invalid YAML", err)
	case err != nil && is && stored != nil:
		return errors.Join(err, printRendered(stored, request, out))
	case err != nil:
		return err
	}
	return printRendered(stored, request, out)
}

func printRendered(made *release.Release, request *localRequest, out io.Writer) error {
	var text strings.Builder
	fmt.Fprintln(&text, strings.TrimSpace(made.Manifest))
	for _, hook := range made.Hooks {
		test := slices.Contains(hook.Events, release.HookTest)
		if !request.Template.NoHooks && (!test || !request.Template.SkipTests) {
			fmt.Fprintf(&text, "---\n# Source: %s\n%s\n", hook.Path, hook.Manifest)
		}
	}
	if len(request.Template.ShowOnly) == 0 {
		_, err := io.WriteString(out, text.String())
		return err
	}
	parts := releaseutil.SplitManifests(text.String())
	keys := make([]string, 0, len(parts))
	for key := range parts {
		keys = append(keys, key)
	}
	sort.Sort(releaseutil.BySplitManifestsOrder(keys))
	for _, pattern := range request.Template.ShowOnly {
		missing := true
		for _, key := range keys {
			found := sourceOfManifest.FindStringSubmatch(parts[key])
			if len(found) == 0 {
				continue
			}
			if matched, _ := filepath.Match(filepath.ToSlash(pattern), found[1]); matched {
				missing = false
				fmt.Fprintf(out, "---\n%s\n", parts[key])
			}
		}
		if missing {
			return fmt.Errorf("could not find template %s in chart", pattern)
		}
	}
	return nil
}
