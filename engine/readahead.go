package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"

	"helm.sh/helm/v4/pkg/kube"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"
)

// readAhead answers look-ups of single objects that were made side by side, just before Helm makes them one by one.
// Each answer is given as often as was asked for; a write to the object makes it void.
type readAhead struct {
	next http.RoundTripper
	lock sync.Mutex
	kept map[string]*answer
}

type answer struct {
	status int
	header http.Header
	body   []byte
	uses   int
}

func (r *readAhead) RoundTrip(request *http.Request) (*http.Response, error) {
	at := request.URL.Scheme + "://" + request.URL.Host + request.URL.Path
	r.lock.Lock()
	known := r.kept[at]
	isLook := request.Method == http.MethodGet && request.URL.RawQuery == ""
	if known != nil {
		known.uses--
	}
	if known == nil || known.uses <= 0 || !isLook {
		delete(r.kept, at)
	}
	r.lock.Unlock()
	if known == nil || !isLook {
		return r.next.RoundTrip(request)
	}
	return &http.Response{
		Status: http.StatusText(known.status), StatusCode: known.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: known.header.Clone(), Body: io.NopCloser(bytes.NewReader(known.body)), ContentLength: int64(len(known.body)),
		Request: request,
	}, nil
}

// forget ends an operation.
func (r *readAhead) forget() {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.kept = nil
}

func (r *readAhead) keep(at string, known *answer) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.kept == nil {
		r.kept = map[string]*answer{}
	}
	r.kept[at] = known
}

// look reads all objects at once, for so many look-ups of each; see gets what is there.
func (o *objects) look(list kube.ResourceList, uses int, see func(*resource.Info, *metav1.PartialObjectMetadata)) {
	places := make(chan struct{}, o.parallel)
	var running sync.WaitGroup
	for _, info := range list {
		if info.Client == nil || info.Name == "" {
			continue
		}
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			known, at := o.ask(info)
			if known == nil {
				return
			}
			known.uses = uses
			o.cluster.ahead.keep(at, known)
			var found metav1.PartialObjectMetadata
			if see != nil && known.status == http.StatusOK && json.Unmarshal(known.body, &found) == nil {
				see(info, &found)
			}
		})
	}
	running.Wait()
}

// ask looks one object up; nil if that is to be tried again, by whoever needs it.
func (o *objects) ask(info *resource.Info) (*answer, string) {
	namespaced := resource.NewHelper(info.Client, info.Mapping).NamespaceScoped
	at := info.Client.Get().NamespaceIfScoped(info.Namespace, namespaced).
		Resource(info.Mapping.Resource.Resource).Name(info.Name).URL()
	request, err := http.NewRequest(http.MethodGet, at.String(), http.NoBody) //nolint:noctx // ends with the process
	if err != nil {
		return nil, ""
	}
	request.Header.Set("Accept", "application/json")
	response, err := o.cluster.http.Do(request)
	if err != nil {
		return nil, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || (response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNotFound) {
		return nil, ""
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body}, at.String()
}
