package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func kubeconfigOf(server string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"a",
		"clusters":[{"name":"a","cluster":{"server":%q}}],"users":[{"name":"a","user":{"token":"t"}}],
		"contexts":[{"name":"a","context":{"cluster":"a","user":"a"}}]}`, server)
}

// apiServer answers discovery with entity tags, as an API server does, and counts the whole answers.
type apiServer struct {
	*httptest.Server
	whole atomic.Int32
	kind  atomic.Value
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	made := &apiServer{}
	made.kind.Store("First")
	made.Server = httptest.NewServer(http.HandlerFunc(made.serve))
	t.Cleanup(made.Close)
	return made
}

func (a *apiServer) serve(writer http.ResponseWriter, request *http.Request) {
	kind, _ := a.kind.Load().(string)
	switch request.URL.Path {
	case "/version":
		_, _ = writer.Write([]byte(`{"major":"1","minor":"36","gitVersion":"v1.36.0"}`))
	case "/api", "/apis":
		tag := `"` + kind + request.URL.Path + `"`
		if request.Header.Get("If-None-Match") == tag {
			writer.WriteHeader(http.StatusNotModified)
			return
		}
		a.whole.Add(1)
		writer.Header().Set("ETag", tag)
		writer.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		items := []any{}
		if request.URL.Path == "/apis" {
			items = append(items, map[string]any{
				"metadata": map[string]any{"name": "example.com"},
				"versions": []any{map[string]any{"version": "v1", "resources": []any{map[string]any{
					"resource": "things", "scope": "Namespaced", "singularResource": "thing", "verbs": []string{"get"},
					"responseKind": map[string]any{"group": "example.com", "version": "v1", "kind": kind},
				}}}},
			})
		}
		answer := map[string]any{"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}
		_ = json.NewEncoder(writer).Encode(answer)
	default:
		http.NotFound(writer, request)
	}
}

func open(t *testing.T, from *clusters, server string) *cluster {
	t.Helper()
	target, err := url.Parse(server)
	must(t, err)
	opened, err := from.open(kubeconfigOf(server), callTo(target.Host))
	must(t, err)
	return opened
}

func TestDiscoveryIsKeptWhileTheClusterSaysThatItIsTheSame(t *testing.T) {
	server := newAPIServer(t)
	kept := newClusters(t, limits())
	for range 3 {
		one := open(t, kept, server.URL)
		must(t, one.reach(true))
		if !one.capabilities.APIVersions.Has("example.com/v1/First") || one.capabilities.KubeVersion.Minor != "36" {
			t.Fatalf("%+v", one.capabilities)
		}
		one.release()
	}
	if count := server.whole.Load(); count != 2 {
		t.Fatalf("%d whole documents were read", count)
	}
	server.kind.Store("Second")
	one := open(t, kept, server.URL)
	defer one.release()
	must(t, one.reach(true))
	if !one.capabilities.APIVersions.Has("example.com/v1/Second") || one.capabilities.APIVersions.Has("example.com/v1/First") {
		t.Fatalf("%+v", one.capabilities.APIVersions)
	}
}

func TestAKindThatIsNotKnownIsLookedForAgain(t *testing.T) {
	server := newAPIServer(t)
	one := open(t, newClusters(t, limits()), server.URL)
	defer one.release()
	_, err := one.mapper.RESTMapping(schema.GroupKind{Group: "example.com", Kind: "First"}, "v1")
	must(t, err)
	server.kind.Store("Second")
	one.discovery.begin()
	_, err = one.mapper.RESTMapping(schema.GroupKind{Group: "example.com", Kind: "Second"}, "v1")
	must(t, err)
}

func TestTheLastClustersAreKeptAndNoOthers(t *testing.T) {
	kept := newClusters(t, limits())
	first := open(t, kept, "https://192.0.2.1:1")
	for number := range keptClusters - 1 {
		open(t, kept, fmt.Sprintf("https://192.0.2.1:%d", number+2))
	}
	if open(t, kept, "https://192.0.2.1:1") != first {
		t.Fatal("forgotten too early")
	}
	open(t, kept, "https://192.0.2.1:999")
	if len(kept.kept) != keptClusters {
		t.Fatal(len(kept.kept))
	}
	for _, one := range kept.kept {
		if one.config.Host == "https://192.0.2.1:2" {
			t.Fatal("the one that was not used for longest is still there")
		}
	}
}

func TestAKubeconfigThatIsNoneIsRefused(t *testing.T) {
	kept := newClusters(t, limits())
	for text, said := range map[string]string{
		"": "the kubeconfig is empty", " \n": "the kubeconfig is empty", "a: [": "cannot be used", "a: b": "cannot be used",
		strings.Replace(kubeconfigOf("https://a"), `"token":"t"`, `"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":"id","interactiveMode":"Never"}`, 1): "runs a program",
	} {
		_, err := kept.open(text, callTo(""))
		refusedWith(t, err, unreachableError, said)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, status))
		one := open(t, newClusters(t, limits()), server.URL)
		err := one.reach(true)
		refusedWith(t, err, unreachableError, "sends us to another address, which is not followed")
		one.release()
		server.Close()
	}
	if asked.Load() != 0 {
		t.Fatal("asked")
	}
}

func TestALookUpMadeAheadIsGivenAsOftenAsAskedForAndNotAfterAWrite(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	one := open(t, newClusters(t, limits()), server.URL)
	defer one.release()
	at := server.URL + "/api/v1/namespaces/n/configmaps/a"
	get := func(method string) {
		request, err := http.NewRequest(method, at, http.NoBody)
		must(t, err)
		answer, err := one.http.Do(request)
		must(t, err)
		must(t, answer.Body.Close())
	}
	keep := func(uses int) {
		one.ahead.keep(at, &answer{status: http.StatusNotFound, header: http.Header{}, body: []byte("{}"), uses: uses})
	}
	keep(2)
	get(http.MethodGet)
	get(http.MethodGet)
	get(http.MethodGet)
	if asked.Load() != 1 {
		t.Fatal("it was not given exactly twice:", asked.Load())
	}
	keep(2)
	get(http.MethodPatch)
	get(http.MethodGet)
	if asked.Load() != 3 {
		t.Fatal("it was given after a write:", asked.Load())
	}
	keep(2)
	one.ahead.forget()
	get(http.MethodGet)
	if asked.Load() != 4 {
		t.Fatal("it was given in the next operation:", asked.Load())
	}
}

func TestWhatIsGivenAheadIsNoRequestForThePace(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	slow := limits()
	slow.QPS, slow.Burst = 0.001, 1
	one := open(t, newClusters(t, slow), server.URL)
	defer one.release()
	at := server.URL + "/api/v1/namespaces/n/configmaps/a"
	one.ahead.keep(at, &answer{status: http.StatusOK, header: http.Header{}, body: []byte("{}"), uses: 3})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	get := func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
		must(t, err)
		answer, err := one.http.Do(request)
		if err == nil {
			must(t, answer.Body.Close())
		}
		return err
	}
	for range 4 {
		must(t, get())
	}
	if err := get(); err == nil {
		t.Fatal("a request more than the pace allows")
	}
}

func TestAsManyConnectionsAreKeptAsWorkAtATime(t *testing.T) {
	const atOnce = 40
	var opened atomic.Int32
	var arrived sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived.Done()
		arrived.Wait()
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	many := limits()
	many.ParallelObjects = atOnce
	one := open(t, newClusters(t, many), server.URL)
	defer one.release()
	for range 3 {
		arrived.Add(atOnce)
		var running sync.WaitGroup
		for range atOnce {
			running.Go(func() {
				answer, err := one.http.Get(server.URL + "/") //nolint:noctx // a test
				if err == nil {
					_ = answer.Body.Close()
				}
			})
		}
		running.Wait()
	}
	if count := opened.Load(); count != atOnce {
		t.Fatalf("%d connections", count)
	}
}
