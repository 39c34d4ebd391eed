package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
)

const (
	sourceSeparator = "\n---\n" + sourceMark
	notesFile       = "templates/NOTES.txt"
)

// plannedRelease is the revision that somebody has reviewed: Helm makes this one, and no other.
type plannedRelease struct {
	Revision int           `json:"revision"`
	Manifest string        `json:"manifest"`
	Notes    string        `json:"notes"`
	Hooks    []plannedHook `json:"hooks"`
}

// plannedHook is a hook: everything else of it is in its annotations.
type plannedHook struct {
	Path     string `json:"path"`
	Manifest string `json:"manifest"`
}

// sourced is a document of a manifest with the path of its template, exactly as Helm wrote both.
type sourced struct{ path, content string }

// sourcesOf splits a manifest that Helm wrote: no line of a document begins with the separator, at which Helm splits.
func sourcesOf(manifest string) []sourced {
	var found []sourced
	for _, part := range strings.Split("\n"+strings.TrimSuffix(manifest, "\n"), sourceSeparator)[1:] {
		path, content, _ := strings.Cut(part, "\n")
		found = append(found, sourced{path, content})
	}
	return found
}

// handOver gives Helm the planned texts in place of the chart's templates, and returns what puts those back.
//
// A post-renderer would not do: its output is parsed and written anew, and notes do not pass it.
func (p *plannedRelease) handOver(loaded *chart.Chart) (func(), error) {
	texts := map[string][]string{}
	documents := sourcesOf(p.Manifest)
	for _, hook := range p.Hooks {
		documents = append(documents, sourced{hook.Path, hook.Manifest})
	}
	for _, one := range documents {
		texts[one.path] = append(texts[one.path], one.content)
	}
	var planned []*common.File
	for path, contents := range texts {
		name, own := strings.CutPrefix(path, loaded.Name()+"/")
		if !own {
			return nil, refusal{kind: planMoved, message: fmt.Sprintf("the plan has the template %q, which is of another chart", path)}
		}
		// only the last document of a file can end without a newline
		slices.SortStableFunc(contents, func(a, b string) int { return endsOpen(a) - endsOpen(b) })
		planned = append(planned, literal(name, "---\n"+strings.Join(contents, "---\n")))
	}
	if p.Notes != "" {
		planned = append(planned, literal(notesFile, p.Notes))
	}
	own := loaded.Templates
	loaded.Templates = planned
	for _, dependency := range loaded.Dependencies() {
		clearTemplates(dependency)
	}
	return func() { loaded.Templates = own }, nil
}

func endsOpen(text string) int {
	if strings.HasSuffix(text, "\n") {
		return 0
	}
	return 1
}

// literal returns a template that renders exactly the text.
func literal(name, text string) *common.File {
	return &common.File{Name: name, Data: []byte("{{ " + strconv.Quote(text) + " }}")}
}

// clearTemplates leaves a subchart its values only; what it renders is in the plan, and Helm stores no subchart.
func clearTemplates(one *chart.Chart) {
	one.Templates = nil
	for _, dependency := range one.Dependencies() {
		clearTemplates(dependency)
	}
}

// compare refuses a revision that is not the planned one, before it is stored.
func (p *plannedRelease) compare(made *releasev1.Release) error {
	hooks := make([]plannedHook, 0, len(made.Hooks))
	for _, one := range made.Hooks {
		hooks = append(hooks, plannedHook{one.Path, one.Manifest})
	}
	moved := ""
	switch {
	case p.Revision != made.Version:
		moved = fmt.Sprintf("the next revision is %d by now, not %d", made.Version, p.Revision)
	case p.Manifest != made.Manifest:
		moved = "the manifest would be another one"
	case !slices.Equal(p.Hooks, hooks):
		moved = "the hooks would be others"
	case p.Notes != made.Info.Notes:
		moved = "the notes would be others"
	default:
		return nil
	}
	return refusal{kind: planMoved, message: "the plan cannot be applied: " + moved + "; plan again"}
}

// follow makes an action follow the plan, if there is one: what it is going to store is compared first.
func (p *plannedRelease) follow(loaded *chart.Chart, records *records) error {
	if p == nil {
		return nil
	}
	restore, next := func() {}, records.before
	if loaded != nil {
		var err error
		if restore, err = p.handOver(loaded); err != nil {
			return err
		}
	}
	records.before = func(made *releasev1.Release) error {
		restore()
		if err := p.compare(made); err != nil {
			return err
		}
		return next(made)
	}
	return nil
}
