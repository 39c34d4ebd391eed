package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

// mapServer has ConfigMaps with these names, and remembers what was asked of it.
type mapServer struct {
	*httptest.Server
	names    []string
	denyList bool
	lock     sync.Mutex
	asked    []string
}

func newMapServer(t *testing.T, names ...string) *mapServer {
	t.Helper()
	made := &mapServer{names: names}
	made.Server = httptest.NewServer(http.HandlerFunc(made.serve))
	t.Cleanup(made.Close)
	return made
}

func (m *mapServer) serve(writer http.ResponseWriter, request *http.Request) {
	m.lock.Lock()
	defer m.lock.Unlock()
	name := strings.TrimPrefix(strings.TrimPrefix(request.URL.Path, "/api/v1/namespaces/default/configmaps"), "/")
	m.asked = append(m.asked, name)
	writer.Header().Set("Content-Type", "application/json")
	switch limit, _ := strconv.Atoi(request.URL.Query().Get("limit")); {
	case name == "" && m.denyList:
		refuse(writer, http.StatusForbidden, "Forbidden")
	case name == "":
		list := metav1.PartialObjectMetadataList{}
		list.Kind, list.APIVersion = "PartialObjectMetadataList", "meta.k8s.io/v1"
		for _, one := range m.names[:min(limit, len(m.names))] {
			item := metav1.PartialObjectMetadata{}
			item.Name, item.Labels = one, map[string]string{"app": one}
			list.Items = append(list.Items, item)
		}
		if len(m.names) > limit {
			list.Continue = "more"
		}
		_ = json.NewEncoder(writer).Encode(list)
	case slices.Contains(m.names, name):
		_, _ = fmt.Fprintf(writer, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":%q,"labels":{"app":%q}}}`, name, name)
	default:
		refuse(writer, http.StatusNotFound, "NotFound")
	}
}

// lookedUp returns what was asked to look up these ConfigMaps at once, after each of them was got, as Helm does it.
func lookedUp(t *testing.T, server *mapServer, names ...string) []string {
	t.Helper()
	of := open(t, newClusters(t, limits()), server.URL)
	t.Cleanup(of.release)
	objects := newObjects(of, newProgress(nil, false), 4, "web", "default")
	kind := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	var list kube.ResourceList
	for _, name := range names {
		list.Append(&resource.Info{
			Client: of.clients.CoreV1().RESTClient(), Namespace: "default", Name: name,
			Mapping: &meta.RESTMapping{
				Resource: kind.GroupVersion().WithResource("configmaps"), GroupVersionKind: kind, Scope: meta.RESTScopeNamespace,
			},
		})
	}
	objects.look(list, 1, false, nil)
	lookedUp := slices.Clone(server.asked)
	for _, info := range list {
		found, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
		if !slices.Contains(server.names, info.Name) {
			if !apierrors.IsNotFound(err) {
				t.Fatal(info.Name, err)
			}
			continue
		}
		must(t, err)
		accessor, err := meta.Accessor(found)
		must(t, err)
		if accessor.GetName() != info.Name || accessor.GetLabels()["app"] != info.Name {
			t.Fatal(found)
		}
	}
	if asked := len(server.asked); asked != len(lookedUp) {
		t.Fatal("asked again", server.asked)
	}
	objects.look(list, 1, false, nil)
	if again := server.asked[len(lookedUp):]; len(lookedUp) > 1 && slices.Contains(again, "") {
		t.Fatal("a list that did not help was asked for again", again)
	}
	return lookedUp
}

func numbered(count int) []string {
	names := make([]string, 0, count)
	for number := range count {
		names = append(names, fmt.Sprintf("map-%02d", number))
	}
	return names
}

func TestManyObjectsOfAKindAreLookedUpByOneList(t *testing.T) {
	names := numbered(20)
	if asked := lookedUp(t, newMapServer(t, append(names[:15], "other")...), names...); !slices.Equal(asked, []string{""}) {
		t.Fatal(asked)
	}
}

func TestFewObjectsOfAKindAreReadByName(t *testing.T) {
	names := numbered(3)
	if asked := slices.Sorted(slices.Values(lookedUp(t, newMapServer(t, names[:2]...), names...))); !slices.Equal(asked, names) {
		t.Fatal(asked)
	}
}

func TestWhatALongListDoesNotTellIsReadByName(t *testing.T) {
	names := numbered(10)
	there := append(numbered(5), make([]string, 0, 60)...)
	for number := range 60 {
		there = append(there, fmt.Sprintf("other-%02d", number))
	}
	there = append(there, names[7])
	asked := lookedUp(t, newMapServer(t, there...), names...)
	if asked[0] != "" || !slices.Equal(slices.Sorted(slices.Values(asked[1:])), names[5:]) {
		t.Fatal(asked)
	}
}

func TestWhoMayNotListReadsByName(t *testing.T) {
	names := numbered(9)
	server := newMapServer(t, names[:4]...)
	server.denyList = true
	asked := lookedUp(t, server, names...)
	if asked[0] != "" || !slices.Equal(slices.Sorted(slices.Values(asked[1:])), names) {
		t.Fatal(asked)
	}
}
