package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"helm.sh/helm/v4/pkg/release/common"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// secretServer keeps Secrets, as far as Helm's storage needs it, and remembers what was asked of it.
type secretServer struct {
	*httptest.Server
	lock    sync.Mutex
	secrets map[string]corev1.Secret
	asked   []string
	refused string
	// cached is what a list may answer that need not be up to date; nil: what there is.
	cached map[string]corev1.Secret
}

func newSecretServer(t *testing.T) *secretServer {
	t.Helper()
	made := &secretServer{secrets: map[string]corev1.Secret{}}
	made.Server = httptest.NewServer(http.HandlerFunc(made.serve))
	t.Cleanup(made.Close)
	return made
}

func (s *secretServer) serve(writer http.ResponseWriter, request *http.Request) {
	s.lock.Lock()
	defer s.lock.Unlock()
	name := strings.TrimPrefix(strings.TrimPrefix(request.URL.Path, "/api/v1/namespaces/default/secrets"), "/")
	if s.asked = append(s.asked, request.Method+" "+name); name == "" && request.URL.Query().Get("resourceVersion") == "" {
		s.asked[len(s.asked)-1] += "newest"
	}
	writer.Header().Set("Content-Type", "application/json")
	if request.Method == http.MethodPost {
		body, _ := io.ReadAll(request.Body)
		decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		given, is := decoded.(*corev1.Secret)
		if err != nil || !is {
			writer.WriteHeader(http.StatusBadRequest)
			return
		}
		if _, there := s.secrets[given.Name]; there {
			refuse(writer, http.StatusConflict, "AlreadyExists")
			return
		}
		s.secrets[given.Name] = *given
		_ = json.NewEncoder(writer).Encode(given)
		return
	}
	if name == "" {
		list := corev1.SecretList{}
		list.Kind, list.APIVersion = "SecretList", "v1"
		from := s.secrets
		if s.cached != nil && request.URL.Query().Get("resourceVersion") == "0" {
			from = s.cached
		}
		for _, secret := range from {
			list.Items = append(list.Items, secret)
		}
		_ = json.NewEncoder(writer).Encode(list)
		return
	}
	secret, is := s.secrets[name]
	switch {
	case !is:
		refuse(writer, http.StatusNotFound, "NotFound")
	case request.Method == http.MethodDelete && name == s.refused:
		refuse(writer, http.StatusForbidden, "Forbidden")
	default:
		if request.Method == http.MethodDelete {
			delete(s.secrets, name)
		}
		_ = json.NewEncoder(writer).Encode(secret)
	}
}

func refuse(writer http.ResponseWriter, status int, reason string) {
	writer.WriteHeader(status)
	_, _ = fmt.Fprintf(writer, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reason, status)
}

// since returns what was asked since the last time.
func (s *secretServer) since() []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func recordsWith(t *testing.T, server *secretServer, revisions int) *records {
	t.Helper()
	of := open(t, newClusters(t, limits()), server.URL)
	t.Cleanup(of.release)
	progress := newProgress(nil, false)
	made := newRecords(of, newObjects(of, progress, 4, "web", "default"), progress)
	for number := range revisions {
		one := &releasev1.Release{
			Name: "web", Namespace: "default", Version: number + 1, Info: &releasev1.Info{Status: common.StatusDeployed},
		}
		must(t, made.Create(keyOf(one), one))
	}
	server.since()
	return made
}

const key = "sh.helm.release.v1.web.v"

func TestAllRevisionsAreRemovedWithoutReadingThemAgainAndTheNewestLast(t *testing.T) {
	server := newSecretServer(t)
	kept := recordsWith(t, server, 5)
	kept.purges = true
	history, err := kept.storage().History("web")
	must(t, err)
	if len(history) != 5 {
		t.Fatal(len(history))
	}
	for number := range 5 {
		removed, err := kept.storage().Delete("web", number+1)
		must(t, err)
		if removed.(*releasev1.Release).Version != number+1 { //nolint:forcetypeassert // a test
			t.Fatal(removed)
		}
	}
	asked := server.since()
	if len(asked) != 8 || asked[0] != "GET " || asked[7] != "DELETE "+key+"5" {
		t.Fatal(asked)
	}
	if read := slices.Sorted(slices.Values(asked[1:3])); !slices.Equal(read, []string{"GET " + key + "5", "GET " + key + "6"}) {
		t.Fatal(read)
	}
	if older := slices.Sorted(slices.Values(asked[3:7])); older[0] != "DELETE "+key+"1" || older[3] != "DELETE "+key+"4" {
		t.Fatal(older)
	}
}

func TestTheNewestRevisionStaysWhereAnOlderOneCannotBeRemoved(t *testing.T) {
	server := newSecretServer(t)
	kept := recordsWith(t, server, 3)
	kept.purges = true
	server.refused = key + "2"
	_, err := kept.storage().History("web")
	must(t, err)
	_, err = kept.storage().Delete("web", 1)
	must(t, err)
	if _, err = kept.storage().Delete("web", 2); err == nil || classify(err) != forbiddenError {
		t.Fatal(err)
	}
	if slices.Contains(server.since(), "DELETE "+key+"3") {
		t.Fatal("the newest was removed")
	}
}

func TestOneRevisionIsRemovedAlone(t *testing.T) {
	server := newSecretServer(t)
	kept := recordsWith(t, server, 3)
	_, err := kept.storage().History("web")
	must(t, err)
	_, err = kept.storage().Delete("web", 1)
	must(t, err)
	if asked := server.since(); len(asked) != 4 || asked[3] != "DELETE "+key+"1" {
		t.Fatal(asked)
	}
	if _, err = kept.storage().Delete("web", 1); !errors.Is(err, driver.ErrReleaseNotFound) {
		t.Fatal(err)
	}
}

func TestARevisionThatWentMeanwhileIsNotFound(t *testing.T) {
	server := newSecretServer(t)
	kept := recordsWith(t, server, 2)
	_, err := kept.storage().History("web")
	must(t, err)
	server.lock.Lock()
	clear(server.secrets)
	server.lock.Unlock()
	if _, err = kept.storage().Delete("web", 1); !errors.Is(err, driver.ErrReleaseNotFound) {
		t.Fatal(err)
	}
}

func TestThatThereIsNoReleaseIsAskedOnceUntilOneIsStored(t *testing.T) {
	server := newSecretServer(t)
	kept := recordsWith(t, server, 0)
	for range 2 {
		if _, err := kept.storage().Last("web"); !errors.Is(err, driver.ErrReleaseNotFound) {
			t.Fatal(err)
		}
	}
	if asked := server.since(); !slices.Equal(asked, []string{"GET ", "GET " + key + "1"}) {
		t.Fatal(asked)
	}
	must(t, kept.Create(key+"1", &releasev1.Release{Name: "web", Version: 1, Info: &releasev1.Info{}}))
	_, err := kept.storage().Last("web")
	must(t, err)
}

func TestAnOldListIsNotBelieved(t *testing.T) {
	server := newSecretServer(t)
	kept := recordsWith(t, server, 3)
	for name, cached := range map[string][]string{"one more": {"1", "2"}, "none yet": {}, "one that went": {"1", "2", "3", "4"}} {
		server.lock.Lock()
		server.cached = map[string]corev1.Secret{}
		for _, number := range cached {
			one := server.secrets[key+"1"]
			if known, is := server.secrets[key+number]; is {
				one = known
			}
			one.Name, one.Labels = key+number, map[string]string{"version": number, "status": "deployed"}
			server.cached[one.Name] = one
		}
		server.lock.Unlock()
		kept.forget()
		newest, err := kept.storage().Last("web")
		must(t, err)
		if newest.(*releasev1.Release).Version != 3 { //nolint:forcetypeassert // a test
			t.Fatal(name, newest)
		}
		if asked := server.since(); asked[len(asked)-1] != "GET newest" {
			t.Fatal(name, asked)
		}
	}
}

func TestWhatIsDeployedIsKnownAfterwards(t *testing.T) {
	server := newSecretServer(t)
	kept := recordsWith(t, server, 3)
	_, err := kept.storage().Last("web")
	must(t, err)
	must(t, kept.Create(key+"4", &releasev1.Release{
		Name: "web", Version: 4, Info: &releasev1.Info{Status: common.StatusPendingRollback},
	}))
	server.lock.Lock()
	other := server.secrets[key+"1"]
	other.Labels = map[string]string{"version": "1", "status": "superseded"}
	server.secrets[key+"1"] = other
	server.lock.Unlock()
	server.since()
	deployed, err := kept.storage().DeployedAll("web")
	must(t, err)
	versions := []int{}
	for _, one := range deployed {
		versions = append(versions, one.(*releasev1.Release).Version) //nolint:forcetypeassert // a test
	}
	slices.Sort(versions)
	if !slices.Equal(versions, []int{2, 3}) { // the first has changed since
		t.Fatal(versions)
	}
	if asked := slices.Sorted(slices.Values(server.since())); !slices.Equal(asked, []string{"GET " + key + "1", "GET " + key + "2"}) {
		t.Fatal(asked)
	}
}

func TestOnlyTheCommittedRevisionIsMade(t *testing.T) {
	server := newSecretServer(t)
	kept := recordsWith(t, server, 2)
	for _, number := range []int{2, 4} {
		kept.only = 3
		if number == 2 {
			kept.only = 2 // another writer made it after Helm had looked
		}
		one := &releasev1.Release{Name: "web", Namespace: "default", Version: number, Info: &releasev1.Info{}}
		err := kept.Create(keyOf(one), one)
		refusedWith(t, err, revisionTaken, fmt.Sprintf("another writer has made revision %d", kept.only))
	}
	if _, there := server.secrets[key+"4"]; there {
		t.Fatal("another revision was made")
	}
}
