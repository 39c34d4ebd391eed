package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

const (
	schemaFile     = "values.schema.json"
	hookAnnotation = "helm.sh/hook"
	noHook         = "helm.sh/h00k"
)

// nestedArchive is where Helm takes a file for a packed subchart.
var nestedArchive = regexp.MustCompile(`^(?:charts/[^/]+/)*charts/[^/_.][^/]*\.tgz$`)

// charts reads archives, each as Helm does and at no more cost than the limits, those inside of it included.
//
// Helm's own limit is per archive: 34 KiB of archives in archives become gigabytes.
type charts struct {
	limits  options
	checked [sha256.Size]byte
	// outside says which of its schemas leads out of the last one.
	outside error
}

// load returns a chart for one operation, which changes it; it may be installed. Without hooks, what the templates call
// a hook is an object like any other. Without validation, a schema is never looked at, and may lead anywhere.
func (c *charts) load(data []byte, hooks, validated bool) (*chart.Chart, error) {
	if err := c.measure(data); err != nil {
		return nil, err
	}
	if validated && c.outside != nil {
		return nil, c.outside
	}
	loaded, err := loader.LoadArchive(bytes.NewReader(data))
	if err != nil {
		return nil, refusal{kind: chartLoadError, message: err.Error()}
	}
	if loaded.Metadata != nil && strings.EqualFold(loaded.Metadata.Type, "library") {
		return nil, refusal{
			kind:    chartInvalidError,
			message: "the chart is a library chart, which cannot be installed",
		}
	}
	if !hooks {
		hideHooks(loaded)
	}
	return loaded, nil
}

// check refuses an archive that costs more than the limits, or whose schemas lead out of it.
func (c *charts) check(data []byte) error {
	if err := c.measure(data); err != nil {
		return err
	}
	return c.outside
}

// measure refuses an archive that costs more than the limits; what is found of the last one is remembered.
func (c *charts) measure(data []byte) error {
	digest := sha256.Sum256(data)
	if digest == c.checked {
		return nil
	}
	left := &budget{bytes: c.limits.ChartUnpackedBytes, files: c.limits.ChartFiles, limits: c.limits}
	if err := left.checkArchive(data, "the chart", 0); err != nil {
		return refusal{kind: chartLoadError, message: err.Error()}
	}
	c.checked, c.outside = digest, nil
	if left.outside != nil {
		c.outside = refusal{kind: chartLoadError, message: left.outside.Error()}
	}
	return nil
}

func hideHooks(loaded *chart.Chart) {
	for _, template := range loaded.Templates {
		template.Data = bytes.ReplaceAll(template.Data, []byte(hookAnnotation), []byte(noHook))
	}
	for _, dependency := range loaded.Dependencies() {
		hideHooks(dependency)
	}
}

// budget is what an archive and all archives in it may still cost together.
type budget struct {
	bytes  int64
	files  int
	limits options
	// outside is the first schema that leads out of its file.
	outside error
}

func (b *budget) checkArchive(data []byte, name string, depth int) error {
	if depth > b.limits.ChartDepth {
		return fmt.Errorf("%s: archives inside archives more than %d deep, the limit", name, b.limits.ChartDepth)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		if len(data) == 0 {
			return fmt.Errorf("%s: empty", name)
		}
		return fmt.Errorf("%s: not a gzip file: %w", name, err)
	}
	defer unzipped.Close()
	entries := tar.NewReader(&charged{source: unzipped, budget: b, archive: name})
	for {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if b.files--; b.files < 0 {
			return fmt.Errorf(
				"%s: holds more than %d files and folders, the limit for a chart with all archives in its charts/ folders",
				name, b.limits.ChartFiles)
		}
		if err := b.checkEntry(header, entries, name, depth); err != nil {
			return err
		}
	}
}

func (b *budget) checkEntry(header *tar.Header, content io.Reader, name string, depth int) error {
	if header.Size > b.limits.ChartFileBytes {
		return fmt.Errorf("%s: %q has %d bytes; the limit for one file is %d",
			name, header.Name, header.Size, b.limits.ChartFileBytes)
	}
	if header.FileInfo().IsDir() {
		return nil
	}
	// as Helm's loader cuts and cleans it
	inside := strings.ReplaceAll(header.Name, "\\", "/")
	_, inside, _ = strings.Cut(inside, "/")
	inside = path.Clean(inside)
	switch {
	case path.Base(inside) == schemaFile:
		schema, err := io.ReadAll(content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if b.outside == nil {
			b.outside = checkSchema(bytes.TrimPrefix(schema, []byte("\xef\xbb\xbf")), name+": "+inside)
		}
	case nestedArchive.MatchString(inside):
		nested, err := io.ReadAll(content)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return b.checkArchive(nested, inside, depth+1)
	}
	return nil
}

// charged counts every inflated byte before anybody looks at it.
type charged struct {
	source  io.Reader
	budget  *budget
	archive string
}

func (c *charged) Read(into []byte) (int, error) {
	count, err := c.source.Read(into)
	if c.budget.bytes -= int64(count); c.budget.bytes < 0 {
		return 0, fmt.Errorf("unpacks to more than %d bytes, the limit for a chart with all archives in its charts/ folders",
			c.budget.limits.ChartUnpackedBytes)
	}
	return count, err
}

// checkSchema refuses a schema for which something outside of it would be loaded: Helm follows any URL and any path.
func checkSchema(text []byte, name string) (refused error) {
	defer func() { _ = recover() }() // Helm's own check ends in the same way, and says so
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil // Helm says what is wrong, when it is used
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nothing{})
	const own = "file:///" + schemaFile
	if err := compiler.AddResource(own, schema); err != nil {
		return nil
	}
	_, err = compiler.Compile(own)
	var outside *jsonschema.LoadURLError
	if errors.As(err, &outside) {
		return fmt.Errorf("%s: refers to %q; only references within the file are allowed", name, outside.URL)
	}
	return nil
}

// nothing is a loader of schemas that loads none.
type nothing struct{}

func (nothing) Load(url string) (any, error) { return nil, errors.New("not loaded") }

// nameChart is a chart whose one template is a name template.
func nameChart(template string) (*chart.Chart, error) {
	return loader.LoadFiles([]*archive.BufferedFile{
		{Name: "Chart.yaml", Data: []byte(`{"apiVersion":"v2","name":"name","version":"0.0.0"}`)},
		{Name: "templates/name_template", Data: []byte(template)},
	})
}

// ownFiles are the files that Helm stores of a chart in the release: subcharts are not among them.
func ownFiles(loaded *chart.Chart) []*common.File {
	return append(append([]*common.File{}, loaded.Templates...), loaded.Files...)
}
