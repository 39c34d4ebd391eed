package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	helmengine "helm.sh/helm/v4/pkg/engine"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	secretLimit = 1024 * 1024
	// What an archive and a text can become at most; below, packing them to see is not worth its time.
	archiveGrowth, textGrowth = 4, 1.4
	// What is larger is measured though it may pack well: whoever reads the release back has to unpack it whole.
	largeRelease = 16 * 1024 * 1024
	namedParts   = 6
)

// renderName returns the text of a name template: it has the functions of a chart, without a cluster.
func renderName(request *renderNameRequest) (string, error) {
	made, err := nameChart(request.Template)
	if err != nil {
		return "", err
	}
	rendered, err := render(made, nil, false, common.ReleaseOptions{Name: "release", Namespace: "default", IsInstall: true})
	if err != nil {
		return "", refusal{kind: renderError, message: strings.ReplaceAll(err.Error(), "name/templates/", "")}
	}
	return rendered["name/templates/name_template"], nil
}

func render(loaded *chart.Chart, given values, unvalidated bool, about common.ReleaseOptions) (map[string]string, error) {
	if err := chartutil.ProcessDependencies(loaded, map[string]any(given)); err != nil {
		return nil, err
	}
	capabilities := common.DefaultCapabilities.Copy()
	merged, err := util.ToRenderValuesWithSchemaValidation(loaded, given, about, capabilities, unvalidated)
	if err != nil {
		return nil, err
	}
	return helmengine.Engine{}.RenderWithContext(context.Background(), loaded, merged)
}

// inspect returns what a chart makes of the values, as far as that can be told without a cluster.
func (e *engine) inspect(request *inspectRequest) (*inspection, error) {
	loaded, err := e.charts.load(request.Chart, true, !request.SkipSchemaValidation)
	if err != nil {
		return nil, err
	}
	given, err := merge(request.Values, request.Layers)
	if err != nil {
		return nil, err
	}
	rendered, err := render(loaded, given, request.SkipSchemaValidation, common.ReleaseOptions{
		Name: request.ReleaseName, Namespace: request.Namespace, Revision: request.Revision,
		IsInstall: !request.IsUpgrade, IsUpgrade: request.IsUpgrade,
	})
	if err != nil {
		return nil, err
	}
	made := &inspection{Objects: []renderedObject{}, CRDKinds: [][2]string{}, Parts: []releasePart{}}
	for _, path := range sortedKeys(rendered) {
		if !strings.HasSuffix(path, ".txt") {
			made.Objects = append(made.Objects, objectsOf(rendered[path], request.Namespace)...)
		}
	}
	for _, crd := range loaded.CRDObjects() {
		made.CRDKinds = append(made.CRDKinds, kindsOf(crd.File.Data)...)
	}
	return made, made.measure(given, len(request.Chart), loaded, rendered)
}

func sortedKeys(texts map[string]string) []string {
	keys := make([]string, 0, len(texts))
	for key := range texts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// objectsOf returns the objects of a file; none if it cannot be read, which Helm says.
func objectsOf(text, namespace string) []renderedObject {
	var found []renderedObject
	for _, raw := range yamlDocuments([]byte(text)) {
		var plain map[string]any
		if yaml.Unmarshal(raw, &plain) != nil {
			return nil
		}
		found = append(found, describeObject(plain, namespace)...)
	}
	return found
}

func yamlDocuments(text []byte) [][]byte {
	var found [][]byte
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(append(bytes.Clone(text), '\n'))))
	for {
		raw, err := reader.Read()
		if err != nil {
			return found
		}
		if len(bytes.TrimSpace(raw)) > 0 {
			found = append(found, raw)
		}
	}
}

func describeObject(plain map[string]any, namespace string) []renderedObject {
	kind, _ := plain["kind"].(string)
	version, _ := plain["apiVersion"].(string)
	if items, is := plain["items"].([]any); is && strings.HasSuffix(kind, "List") {
		var found []renderedObject
		for _, item := range items {
			if one, is := item.(map[string]any); is {
				found = append(found, describeObject(one, namespace)...)
			}
		}
		return found
	}
	if kind == "" || version == "" {
		return nil
	}
	metadata, _ := plain["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	made := renderedObject{APIVersion: version, Kind: kind, Namespace: textOf(metadata["namespace"]),
		Name: textOf(metadata["name"]), Hook: textOf(annotations[hookAnnotation]), Defines: [][2]string{}}
	if kind == crdKind {
		made.Defines = append(made.Defines, kindsOf(jsonOf(plain))...)
	}
	if made.Namespace == "" {
		made.Namespace = namespace
	}
	return []renderedObject{made}
}

func textOf(value any) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

// kindsOf returns the kinds that a file of crds/ defines, each as group/version and kind.
func kindsOf(text []byte) [][2]string {
	var found [][2]string
	for _, one := range resourcesOf(text) {
		found = append(found, [2]string{one.Group + "/" + one.Version, one.Kind})
	}
	return found
}

// resourcesOf returns what a cluster serves once it has the CRDs of a file of crds/.
func resourcesOf(text []byte) []metav1.APIResource {
	var found []metav1.APIResource
	for _, raw := range yamlDocuments(text) {
		var crd struct {
			Spec struct {
				Group string `json:"group"`
				Scope string `json:"scope"`
				Names struct {
					Kind     string `json:"kind"`
					Plural   string `json:"plural"`
					Singular string `json:"singular"`
				} `json:"names"`
				Versions []struct {
					Name   string `json:"name"`
					Served bool   `json:"served"`
				} `json:"versions"`
			} `json:"spec"`
		}
		if yaml.Unmarshal(raw, &crd) != nil {
			continue
		}
		names := crd.Spec.Names
		for _, version := range crd.Spec.Versions {
			if version.Served && names.Kind != "" {
				found = append(found, metav1.APIResource{
					Group: crd.Spec.Group, Version: version.Name, Kind: names.Kind, Name: names.Plural,
					SingularName: names.Singular, Namespaced: crd.Spec.Scope == "Namespaced",
					Verbs: metav1.Verbs{"get", "list"},
				})
			}
		}
	}
	return found
}

// measure fills how large the release's Secret will be, when it may come near a limit.
//
// Helm stores a release as base64 of gzipped JSON (pkg/storage/driver/util.go): the chart's own templates and files,
// its values and schema, the values of the request, and everything rendered. Subcharts are not in it.
func (i *inspection) measure(values values, archive int, loaded *chart.Chart, rendered map[string]string) error {
	given, err := json.Marshal(values)
	if err != nil {
		return err
	}
	text := len(given)
	for _, one := range rendered {
		text += len(one)
	}
	content := 0
	for _, file := range loaded.Raw {
		content += len(file.Data)
	}
	if float64(archive*archiveGrowth)+float64(text)*textGrowth <= secretLimit && content+text <= largeRelease {
		return nil
	}
	parts := map[string][]byte{"the values of the request": given}
	for _, file := range ownFiles(loaded) {
		parts[partName(file.Name)] = jsonOf(map[string]any{"name": file.Name, "data": file.Data})
	}
	parts["the chart's default values"] = jsonOf(loaded.Values)
	parts["the values schema"] = jsonOf(loaded.Schema)
	manifest := make([]string, 0, len(rendered))
	for _, path := range sortedKeys(rendered) {
		manifest = append(manifest, fmt.Sprintf("---\n# Source: %s\n%s\n", path, rendered[path]))
	}
	parts["the rendered manifest, hooks and notes"] = jsonOf(manifest)
	var whole bytes.Buffer
	for _, part := range parts {
		i.UnpackedBytes += len(part)
		whole.Write(part)
	}
	i.PackedBytes = packedSize(whole.Bytes())
	for name, part := range parts {
		i.Parts = append(i.Parts, releasePart{Name: name, PackedBytes: packedSize(part)})
	}
	sort.Slice(i.Parts, func(a, b int) bool { return i.Parts[a].PackedBytes > i.Parts[b].PackedBytes })
	i.Parts = i.Parts[:min(namedParts, len(i.Parts))]
	return nil
}

func jsonOf(value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil // Helm says what cannot be stored
	}
	return encoded
}

func packedSize(text []byte) int {
	counted := &countingWriter{}
	writer, _ := gzip.NewWriterLevel(counted, gzip.BestCompression) // the level is a valid one
	_, _ = writer.Write(text)                                       // a counter takes everything
	_ = writer.Close()
	return base64.StdEncoding.EncodedLen(counted.size)
}

type countingWriter struct{ size int }

func (c *countingWriter) Write(data []byte) (int, error) {
	c.size += len(data)
	return len(data), nil
}

var _ io.Writer = (*countingWriter)(nil)

func partName(path string) string {
	if strings.HasPrefix(path, "templates/") {
		return "template " + path
	}
	return "file " + path
}

// lint returns what "helm lint" says of a chart with its own values, in the words that name the chart's own paths.
func (e *engine) lint(request *lintRequest) (*lintOutcome, error) {
	if err := e.charts.check(request.Chart); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "chart")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "chart.tgz")
	if err := os.WriteFile(file, request.Chart, 0o600); err != nil {
		return nil, err
	}
	linting := action.NewLint()
	linting.Namespace = "default"
	result := linting.Run([]string{file}, map[string]any{})
	made := &lintOutcome{Findings: []lintFinding{}}
	// where Helm unpacks a chart; the name of the chart's own folder follows
	place := regexp.MustCompile(regexp.QuoteMeta(os.TempDir()) + `/helm-lint\d+/?`)
	shown := func(text string) string { return strings.Join(strings.Fields(place.ReplaceAllString(text, "")), " ") }
	told := map[error]bool{}
	for _, message := range result.Messages {
		told[message.Err] = true
		made.Findings = append(made.Findings, lintFinding{
			Severity: severity(message.Severity), Path: place.ReplaceAllString(message.Path, ""),
			Message: shown(message.Err.Error()),
		})
	}
	// what refuses the chart before any rule looks at it
	for _, failure := range result.Errors {
		if !told[failure] {
			made.Findings = append(made.Findings, lintFinding{Severity: severity(support.ErrorSev), Message: shown(failure.Error())})
		}
	}
	return made, nil
}

func severity(level int) string {
	switch level {
	case support.WarningSev:
		return "warning"
	case support.ErrorSev:
		return "error"
	}
	return "info"
}
