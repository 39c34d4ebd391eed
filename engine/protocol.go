package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	podsv1 "k8s.io/api/core/v1"
)

// The requests and outcomes of src/pilothouse/engine/protocol.py, which describes them; a test there compares both sides.

type installRequest struct {
	Kubeconfig      string            `json:"kubeconfig"`
	Namespace       string            `json:"namespace"`
	ReleaseName     string            `json:"release_name"`
	Chart           []byte            `json:"-" body:"chart"`
	Values          values            `json:"values"`
	DryRun          string            `json:"dry_run"`
	DisableHooks    bool              `json:"disable_hooks"`
	ShowHooks       bool              `json:"show_hooks"`
	Replace         bool              `json:"replace"`
	Wait            string            `json:"wait"`
	TimeoutSeconds  float64           `json:"timeout_seconds"`
	Description     string            `json:"description"`
	Labels          map[string]string `json:"labels"`
	CreateNamespace bool              `json:"create_namespace"`
	CRDs            string            `json:"crds"`

	SkipSchemaValidation bool          `json:"skip_schema_validation"`
	Layers               []valuesLayer `json:"layers"`
	TakeOwnership        bool          `json:"take_ownership"`
	ForceConflicts       bool          `json:"force_conflicts"`
	ForceReplace         bool          `json:"force_replace"`

	Planned *plannedRelease `json:"planned"`
}

type upgradeRequest struct {
	Kubeconfig     string            `json:"kubeconfig"`
	Namespace      string            `json:"namespace"`
	ReleaseName    string            `json:"release_name"`
	Chart          []byte            `json:"-" body:"chart"`
	Values         values            `json:"values"`
	DryRun         string            `json:"dry_run"`
	DisableHooks   bool              `json:"disable_hooks"`
	ShowHooks      bool              `json:"show_hooks"`
	ResetValues    bool              `json:"reset_values"`
	ReuseValues    bool              `json:"reuse_values"`
	Wait           string            `json:"wait"`
	TimeoutSeconds float64           `json:"timeout_seconds"`
	Description    string            `json:"description"`
	Labels         map[string]string `json:"labels"`
	MaxHistory     int               `json:"max_history"`
	CRDs           string            `json:"crds"`

	SkipSchemaValidation bool          `json:"skip_schema_validation"`
	RemoveNamespace      bool          `json:"remove_namespace"`
	Layers               []valuesLayer `json:"layers"`
	TakeOwnership        bool          `json:"take_ownership"`
	ForceConflicts       bool          `json:"force_conflicts"`
	ForceReplace         bool          `json:"force_replace"`

	ResetThenReuseValues bool `json:"reset_then_reuse_values"`
	OnlyRevision         int  `json:"only_revision"`

	Planned *plannedRelease `json:"planned"`
}

type rollbackRequest struct {
	Kubeconfig     string  `json:"kubeconfig"`
	Namespace      string  `json:"namespace"`
	ReleaseName    string  `json:"release_name"`
	ToRevision     int     `json:"to_revision"`
	DryRun         string  `json:"dry_run"`
	DisableHooks   bool    `json:"disable_hooks"`
	Wait           string  `json:"wait"`
	TimeoutSeconds float64 `json:"timeout_seconds"`
	MaxHistory     int     `json:"max_history"`
	Revision       int     `json:"revision"`

	RemoveNamespace bool `json:"remove_namespace"`
	ForceConflicts  bool `json:"force_conflicts"`
	ForceReplace    bool `json:"force_replace"`

	Planned *plannedRelease `json:"planned"`
}

type uninstallRequest struct {
	Kubeconfig     string  `json:"kubeconfig"`
	Namespace      string  `json:"namespace"`
	ReleaseName    string  `json:"release_name"`
	DisableHooks   bool    `json:"disable_hooks"`
	Wait           string  `json:"wait"`
	TimeoutSeconds float64 `json:"timeout_seconds"`
	Description    string  `json:"description"`
	KeepHistory    bool    `json:"keep_history"`
	Cascade        string  `json:"cascade"`
}

type runTestsRequest struct {
	Kubeconfig     string   `json:"kubeconfig"`
	Namespace      string   `json:"namespace"`
	ReleaseName    string   `json:"release_name"`
	Revision       int      `json:"revision"`
	Include        []string `json:"include"`
	Exclude        []string `json:"exclude"`
	TimeoutSeconds float64  `json:"timeout_seconds"`
}

type renderNameRequest struct {
	Template string `json:"template"`
}

type renderRequest struct {
	Kubeconfig   string        `json:"kubeconfig"`
	Namespace    string        `json:"namespace"`
	ReleaseName  string        `json:"release_name"`
	NameTemplate string        `json:"name_template"`
	Chart        []byte        `json:"-" body:"chart"`
	Values       values        `json:"values"`
	Layers       []valuesLayer `json:"layers"`
	KubeVersion  string        `json:"kube_version"`
	APIVersions  []string      `json:"api_versions"`
	IncludeCRDs  bool          `json:"include_crds"`
	IsUpgrade    bool          `json:"is_upgrade"`
	DisableHooks bool          `json:"disable_hooks"`
	SkipTests    bool          `json:"skip_tests"`
	ShowOnly     []string      `json:"show_only"`

	SkipSchemaValidation bool `json:"skip_schema_validation"`
}

type lintRequest struct {
	Chart []byte `json:"-" body:"chart"`
}

type inspectRequest struct {
	Namespace   string `json:"namespace"`
	ReleaseName string `json:"release_name"`
	Chart       []byte `json:"-" body:"chart"`
	Values      values `json:"values"`
	Revision    int    `json:"revision"`
	IsUpgrade   bool   `json:"is_upgrade"`

	SkipSchemaValidation bool          `json:"skip_schema_validation"`
	Layers               []valuesLayer `json:"layers"`
}

// valuesLayer is a part of the values, as somebody wrote it.
type valuesLayer struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
	Name string `json:"name"`
}

type mergeValuesRequest struct {
	Layers []valuesLayer `json:"layers"`
}

type mergedValues struct {
	Values map[string]any `json:"values"`
}

type releaseOutcome struct {
	Name          string            `json:"name"`
	Namespace     string            `json:"namespace"`
	Revision      int               `json:"revision"`
	Status        string            `json:"status"`
	Description   string            `json:"description"`
	Manifest      string            `json:"manifest"`
	Notes         string            `json:"notes"`
	FirstDeployed string            `json:"first_deployed"`
	LastDeployed  string            `json:"last_deployed"`
	ChartName     string            `json:"chart_name"`
	ChartVersion  string            `json:"chart_version"`
	AppVersion    string            `json:"app_version"`
	Labels        map[string]string `json:"labels"`
	Values        map[string]any    `json:"values"`
	Hooks         []*releasev1.Hook `json:"hooks"`
}

type runTestsOutcome struct {
	Failure     string            `json:"failure"`
	FailureKind string            `json:"failure_kind"`
	Tests       []*releasev1.Hook `json:"tests"`
	Pods        []testedPod       `json:"pods"`
}

// testedPod is a pod of a test, with the ends of the logs of its containers.
type testedPod struct {
	Owner string            `json:"owner"`
	Pod   *podsv1.Pod       `json:"pod"`
	Logs  map[string]string `json:"logs"`
}

type renderOutcome struct {
	Name     string            `json:"name"`
	Manifest string            `json:"manifest"`
	Notes    string            `json:"notes"`
	Hooks    []*releasev1.Hook `json:"hooks"`
}

type lintFinding struct {
	Severity string `json:"severity"`
	Path     string `json:"path"`
	Message  string `json:"message"`
}

type lintOutcome struct {
	Findings []lintFinding `json:"findings"`
}

type readIndexRequest struct {
	Index []byte `json:"-" body:"index"`
}

type indexOutcome struct {
	// Rows are packed: JSON, a sourceVersion a line.
	Rows    []byte `json:"rows"`
	Count   int    `json:"count"`
	Skipped int    `json:"skipped"`
}

type orderVersionsRequest struct {
	Versions []string `json:"versions"`
	Wanted   string   `json:"wanted"`
}

type orderedVersions struct {
	Keys   []string `json:"keys"`
	Chosen string   `json:"chosen"`
}

type readKeysRequest struct {
	Kind string `json:"kind"`
	Keys string `json:"keys"`
}

// readableKeys are the keys that can sign now, and those that cannot any more, each with the reason.
type readableKeys struct {
	Fingerprints []string `json:"fingerprints"`
	Unusable     []string `json:"unusable"`
}

// verifyProvenanceRequest with Unfetched has the digest of an archive instead of it, in hex; empty: nobody tells it.
type verifyProvenanceRequest struct {
	Chart      []byte `json:"-" body:"chart"`
	Unfetched  bool   `json:"unfetched"`
	Digest     string `json:"digest"`
	FileName   string `json:"file_name"`
	Provenance string `json:"provenance"`
	Keys       string `json:"keys"`
}

// cosignSignature is a signed payload and its signature, both in base64.
type cosignSignature struct {
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

// verifySignaturesRequest has the signatures in the form before bundles, and Sigstore's bundles, each in base64.
type verifySignaturesRequest struct {
	Digest     string            `json:"digest"`
	Signatures []cosignSignature `json:"signatures"`
	Bundles    [][]byte          `json:"bundles"`
	Keys       string            `json:"keys"`
}

type verification struct {
	SignedBy    string `json:"signed_by"`
	Fingerprint string `json:"fingerprint"`
	SigningKey  string `json:"signing_key"`
	SignedAt    string `json:"signed_at"`
}

type renderedObject struct {
	APIVersion string `json:"api_version"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Hook       string `json:"hook"`
	// Defines are the kinds of a CRD.
	Defines [][2]string `json:"defines"`
}

type releasePart struct {
	Name        string `json:"name"`
	PackedBytes int    `json:"packed_bytes"`
}

type inspection struct {
	Objects       []renderedObject `json:"objects"`
	CRDKinds      [][2]string      `json:"crd_kinds"`
	PackedBytes   int              `json:"packed_bytes"`
	UnpackedBytes int              `json:"unpacked_bytes"`
	Parts         []releasePart    `json:"parts"`
}

type progressEvent struct {
	Phase           string `json:"phase"`
	Message         string `json:"message"`
	ObjectKind      string `json:"object_kind"`
	ObjectName      string `json:"object_name"`
	ObjectNamespace string `json:"object_namespace"`
	Done            *int   `json:"done"`
	Total           *int   `json:"total"`
}

// options is ChildOptions of protocol.py.
type options struct {
	ChannelFD          int     `json:"channel_fd"`
	DeadlineFD         int     `json:"deadline_fd"`
	ConnectionsFD      int     `json:"connections_fd"`
	ParentPID          int     `json:"parent_pid"`
	MemoryBytes        int64   `json:"memory_bytes"`
	FileBytes          int64   `json:"file_bytes"`
	ChartUnpackedBytes int64   `json:"chart_unpacked_bytes"`
	ChartFileBytes     int64   `json:"chart_file_bytes"`
	ChartFiles         int     `json:"chart_files"`
	ChartDepth         int     `json:"chart_depth"`
	QPS                float32 `json:"qps"`
	Burst              int     `json:"burst"`
	ParallelObjects    int     `json:"parallel_objects"`
}

// head is the JSON object of a request's frame.
type head struct {
	Action    string          `json:"action"`
	Progress  bool            `json:"progress"`
	Call      uint32          `json:"call"`
	Addresses []string        `json:"addresses"`
	CPULimit  uint64          `json:"cpu_limit_seconds"`
	Request   json.RawMessage `json:"request"`
}

// call is what the parent says of a call's connections: its number in requests for them, and where they lead.
type call struct {
	number    uint32
	addresses []string
}

// values are those of a caller. Numbers are float64, as Helm reads them from YAML, unless that would change an integer.
type values map[string]any

// UnmarshalJSON refuses integers that no type of Go's templates holds.
func (v *values) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var plain map[string]any
	if err := decoder.Decode(&plain); err != nil {
		return err
	}
	kept, err := keepNumbers(plain, "values")
	if err != nil {
		return err
	}
	*v, _ = kept.(map[string]any)
	return nil
}

const exactFloat = 1 << 53

func keepNumbers(value any, where string) (any, error) {
	var err error
	switch typed := value.(type) {
	case map[string]any:
		for key, item := range typed {
			if typed[key], err = keepNumbers(item, where+"."+key); err != nil {
				return nil, err
			}
		}
	case []any:
		for index, item := range typed {
			if typed[index], err = keepNumbers(item, fmt.Sprintf("%s[%d]", where, index)); err != nil {
				return nil, err
			}
		}
	case json.Number:
		return keepNumber(typed, where)
	}
	return value, nil
}

func keepNumber(number json.Number, where string) (any, error) {
	if !strings.ContainsAny(number.String(), ".eE") {
		whole, err := strconv.ParseInt(number.String(), 10, 64)
		if err != nil {
			return nil, refusal{
				kind:    valuesError,
				message: where + ": the integer " + number.String() + " has more than 64 bits; write it as a string",
			}
		}
		if whole > exactFloat || whole < -exactFloat {
			return whole, nil
		}
	}
	return number.Float64()
}

// actions are all requests by name, with an empty outcome of each.
var actions = map[string]struct{ request, outcome any }{
	"install":     {&installRequest{}, releaseOutcome{}},
	"upgrade":     {&upgradeRequest{}, releaseOutcome{}},
	"rollback":    {&rollbackRequest{}, nil},
	"uninstall":   {&uninstallRequest{}, ""},
	"test":        {&runTestsRequest{}, runTestsOutcome{}},
	"render_name": {&renderNameRequest{}, ""},
	"render":      {&renderRequest{}, renderOutcome{}},
	"lint":        {&lintRequest{}, lintOutcome{}},
	"inspect":     {&inspectRequest{}, inspection{}},

	"merge_values":   {&mergeValuesRequest{}, mergedValues{}},
	"read_index":     {&readIndexRequest{}, indexOutcome{}},
	"order_versions": {&orderVersionsRequest{}, orderedVersions{}},
	"read_keys":      {&readKeysRequest{}, readableKeys{}},

	"verify_provenance": {&verifyProvenanceRequest{}, verification{}},
	"verify_signatures": {&verifySignaturesRequest{}, verification{}},
}

// decode returns the request of a frame, which has every field that it must have and no other.
func decode(given head, body []byte) (any, error) {
	known, ok := actions[given.Action]
	if !ok {
		return nil, fmt.Errorf("the action %q is not known", given.Action)
	}
	request := reflect.New(reflect.TypeOf(known.request).Elem())
	decoder := json.NewDecoder(bytes.NewReader(given.Request))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request.Interface()); err != nil {
		return nil, err
	}
	for index := range request.Elem().NumField() {
		if request.Elem().Type().Field(index).Tag.Get("body") != "" {
			request.Elem().Field(index).SetBytes(body)
		}
	}
	return request.Interface(), nil
}

// describe returns the fields of every request, outcome, event and of the options, for the test of the protocol.
func describe() map[string]any {
	described := map[string]any{
		"options": fieldsOf(reflect.TypeFor[options]()),
		"event":   fieldsOf(reflect.TypeFor[progressEvent]()),
		"finding": fieldsOf(reflect.TypeFor[lintFinding]()),
		"object":  fieldsOf(reflect.TypeFor[renderedObject]()),
		"part":    fieldsOf(reflect.TypeFor[releasePart]()),
		"layer":   fieldsOf(reflect.TypeFor[valuesLayer]()),
		"planned": fieldsOf(reflect.TypeFor[plannedRelease]()),
		"hook":    fieldsOf(reflect.TypeFor[plannedHook]()),
		"tested":  fieldsOf(reflect.TypeFor[testedPod]()),
		"cosign":  fieldsOf(reflect.TypeFor[cosignSignature]()),
	}
	for name, action := range actions {
		one := map[string]any{"request": fieldsOf(reflect.TypeOf(action.request).Elem()), "outcome": nil}
		if outcome := reflect.TypeOf(action.outcome); outcome != nil && outcome.Kind() == reflect.Struct {
			one["outcome"] = fieldsOf(outcome)
		} else if outcome != nil {
			one["outcome"] = outcome.String()
		}
		described[name] = one
	}
	return described
}

func fieldsOf(kind reflect.Type) []string {
	names := make([]string, 0, kind.NumField())
	for index := range kind.NumField() {
		field := kind.Field(index)
		name := field.Tag.Get("json")
		if name == "-" {
			name = field.Tag.Get("body")
		}
		names = append(names, name)
	}
	return names
}
