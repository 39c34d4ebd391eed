package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	helmengine "helm.sh/helm/v4/pkg/engine"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const widgetCRD = `
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
    - {name: v1, served: true}
    - {name: v2, served: false}
`

// lookupBehind looks up in a server that serves the resources of example.com/v1, none of them with an object.
func lookupBehind(t *testing.T, served ...metav1.APIResource) func(version, kind, namespace, name string) (map[string]any, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		writer.Header().Set("Content-Type", "application/json")
		switch path := strings.TrimPrefix(request.URL.Path, "/behind"); {
		case path == "/apis/example.com/v1" && len(served) > 0:
			list := metav1.APIResourceList{GroupVersion: "example.com/v1", APIResources: served}
			list.Kind, list.APIVersion = "APIResourceList", "v1"
			_ = json.NewEncoder(writer).Encode(list)
		case strings.HasSuffix(path, "/denied"):
			writer.WriteHeader(http.StatusForbidden)
		default:
			http.NotFound(writer, request)
		}
	}))
	t.Cleanup(server.Close)
	kinds := map[string][]metav1.APIResource{"example.com/v1": resourcesOf([]byte(widgetCRD))}
	config, err := foreseen{&cluster{config: &rest.Config{Host: server.URL + "/behind"}}, kinds}.ToRESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	return helmengine.NewLookupFunction(config)
}

func TestALookupOfAForeseenKindFindsNothing(t *testing.T) {
	other := metav1.APIResource{Name: "gadgets", Kind: "Gadget", Namespaced: true}
	for name, lookup := range map[string]func(string, string, string, string) (map[string]any, error){
		"the group is new": lookupBehind(t), "the version has other kinds": lookupBehind(t, other),
	} {
		found, err := lookup("example.com/v1", "Widget", "shop", "web")
		if err != nil || len(found) != 0 {
			t.Errorf("%s: an object: %v, %v", name, found, err)
		}
		for _, namespace := range []string{"shop", ""} {
			found, err = lookup("example.com/v1", "Widget", namespace, "")
			if items, is := found["items"].([]any); err != nil || !is || len(items) != 0 {
				t.Errorf("%s: the list in %q: %v, %v", name, namespace, found, err)
			}
		}
	}
}

func TestALookupOfWhatIsNotForeseenIsAnsweredByTheCluster(t *testing.T) {
	lookup := lookupBehind(t)
	if _, err := lookup("example.com/v2", "Widget", "shop", "web"); err == nil {
		t.Error("a version that is not served was found")
	}
	if _, err := lookup("example.com/v1", "Widget", "shop", "denied"); err == nil {
		t.Error("a refusal was hidden")
	}
}
