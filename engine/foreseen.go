package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// foreseen is a cluster as a chart's CRDs will make it: in a dry run, templates look up kinds that only they define.
//
// The cluster has none of their objects, as in the moment in which the CRDs are made.
type foreseen struct {
	*cluster
	kinds map[string][]metav1.APIResource
}

var _ action.RESTClientGetter = foreseen{}

// ToRESTConfig returns the connection of the function lookup; everything else knows of the kinds by itself.
func (f foreseen) ToRESTConfig() (*rest.Config, error) {
	config, err := f.cluster.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return foresight{next, f.kinds} })
	return config, nil
}

// foresight answers requests about kinds that the cluster does not serve yet.
type foresight struct {
	next  http.RoundTripper
	kinds map[string][]metav1.APIResource
}

func (f foresight) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := f.next.RoundTrip(request)
	version, rest := f.find(request)
	if err != nil || version == "" {
		return answer, err
	}
	if rest == "" {
		return f.discover(answer, version)
	}
	path := strings.Split(rest, "/")
	if len(path) == 3 && path[0] == "namespaces" {
		path = path[2:]
	}
	if answer.StatusCode != http.StatusNotFound || len(path) != 1 {
		return answer, nil
	}
	for _, one := range f.kinds[version] {
		if one.Name == path[0] {
			return replaced(answer, map[string]any{
				"apiVersion": version, "kind": one.Kind + "List", "metadata": struct{}{}, "items": []any{},
			})
		}
	}
	return answer, nil
}

// find returns the group and version that the request is about, if a kind of it is foreseen, and the rest of its path.
func (f foresight) find(request *http.Request) (string, string) {
	if request.Method != http.MethodGet {
		return "", ""
	}
	for version := range f.kinds {
		if _, rest, is := strings.Cut(request.URL.Path+"/", "/apis/"+version+"/"); is {
			return version, strings.Trim(rest, "/")
		}
	}
	return "", ""
}

// discover adds what is foreseen to the kinds that the cluster serves of that version.
func (f foresight) discover(answer *http.Response, version string) (*http.Response, error) {
	served := metav1.APIResourceList{GroupVersion: version}
	switch answer.StatusCode {
	case http.StatusNotFound:
	case http.StatusOK:
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			return nil, err
		}
		answer.Body = io.NopCloser(bytes.NewReader(text))
		if json.Unmarshal(text, &served) != nil {
			return answer, nil
		}
	default:
		return answer, nil
	}
	served.Kind, served.APIVersion = "APIResourceList", "v1"
	for _, one := range f.kinds[version] {
		if !slices.ContainsFunc(served.APIResources, func(other metav1.APIResource) bool { return other.Name == one.Name }) {
			served.APIResources = append(served.APIResources, one)
		}
	}
	return replaced(answer, served)
}

// replaced returns the answer with another body, as a success.
func replaced(answer *http.Response, body any) (*http.Response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	_ = answer.Body.Close()
	made := *answer
	made.StatusCode, made.Status = http.StatusOK, "200 OK"
	made.Header = answer.Header.Clone()
	made.Header.Set("Content-Type", "application/json")
	made.Header.Del("Content-Length")
	made.ContentLength, made.Body = int64(len(text)), io.NopCloser(bytes.NewReader(text))
	return &made, nil
}

// foresee makes a dry run know the kinds of the chart's crds/, as the action does once they are served.
func (o *operation) foresee(loaded *chart.Chart) {
	kinds := map[string][]metav1.APIResource{}
	o.objects.brought = map[[2]string]bool{}
	for _, crd := range loaded.CRDObjects() {
		for _, one := range resourcesOf(crd.File.Data) {
			version := one.Group + "/" + one.Version
			kinds[version] = append(kinds[version], one)
			o.objects.brought[[2]string{version, one.Kind}] = true
		}
	}
	if len(kinds) == 0 {
		return
	}
	o.configuration.RESTClientGetter = foreseen{o.cluster, kinds}
	known := o.configuration.Capabilities
	known.APIVersions = slices.Clone(known.APIVersions)
	for version, served := range kinds {
		known.APIVersions = append(known.APIVersions, version)
		for _, one := range served {
			known.APIVersions = append(known.APIVersions, version+"/"+one.Kind)
		}
	}
	slices.Sort(known.APIVersions)
	known.APIVersions = slices.Compact(known.APIVersions)
}
