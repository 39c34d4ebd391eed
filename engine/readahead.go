package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

const (
	// listFrom is from how many objects on, of one kind and namespace, a list of them costs less than to read each; and
	// listedPerObject how many are listed for each: among very many others, they are read one by one after all.
	listFrom, listedPerObject = 8, 4
	longestAnswer             = 4 << 20
	mostCrowded               = 1000
)

// readAhead answers look-ups of single objects that were made side by side, just before Helm makes them one by one.
// Each answer is given as often as was asked for; a write to the object makes it void.
type readAhead struct {
	next http.RoundTripper
	lock sync.Mutex
	kept map[string]*answer
	// crowded are the paths of lists that did not help: too long, or refused.
	crowded map[string]bool
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

func (r *readAhead) crowd(place string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.crowded == nil || len(r.crowded) > mostCrowded {
		r.crowded = map[string]bool{}
	}
	r.crowded[place] = true
}

func (r *readAhead) isCrowded(place string) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.crowded[place]
}

func (r *readAhead) keep(at string, known *answer) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.kept == nil {
		r.kept = map[string]*answer{}
	}
	r.kept[at] = known
}

// look reads all objects at once, for so many look-ups of each; see gets what is there. It returns those that could not be
// read, in no order. With lately, a list may be as the API server's cache has it: one that must be up to date waits for
// that, where much is written.
func (o *objects) look(
	list kube.ResourceList, uses int, lately bool, see func(*resource.Info, *metav1.PartialObjectMetadata),
) kube.ResourceList {
	var lock sync.Mutex
	var unread kube.ResourceList
	found := func(info *resource.Info, at string, known *answer) {
		known.uses = uses
		o.cluster.ahead.keep(at, known)
		var live metav1.PartialObjectMetadata
		if see != nil && known.status == http.StatusOK && json.Unmarshal(known.body, &live) == nil {
			see(info, &live)
		}
	}
	places := make(chan struct{}, o.parallel)
	var running sync.WaitGroup
	askEach := func(list kube.ResourceList) {
		for _, info := range list {
			places <- struct{}{}
			running.Go(func() {
				defer func() { <-places }()
				if known, at := o.ask(info); known != nil {
					found(info, at, known)
					return
				}
				lock.Lock()
				defer lock.Unlock()
				unread.Append(info)
			})
		}
	}
	var lists sync.WaitGroup
	for _, group := range grouped(list) {
		if len(group) < listFrom {
			askEach(group)
			continue
		}
		lists.Go(func() { askEach(o.listAll(group, lately, found)) })
	}
	lists.Wait()
	running.Wait()
	return unread
}

// grouped returns the objects that can be looked up, those of one kind and namespace together.
func grouped(list kube.ResourceList) []kube.ResourceList {
	type place struct {
		resource  schema.GroupVersionResource
		namespace string
	}
	index := map[place]int{}
	var groups []kube.ResourceList
	for _, info := range list {
		if info.Client == nil || info.Name == "" {
			continue
		}
		at := place{info.Mapping.Resource, info.Namespace}
		number, known := index[at]
		if !known {
			number = len(groups)
			index[at] = number
			groups = append(groups, nil)
		}
		groups[number].Append(info)
	}
	return groups
}

// listAll looks objects of one kind and namespace up by one list, of which only the metadata is asked for: Helm looks at
// nothing else of what it looks up. It returns those of which the list does not tell, because it is too long, or refused.
func (o *objects) listAll(
	group kube.ResourceList, lately bool, found func(*resource.Info, string, *answer),
) kube.ResourceList {
	listed, whole := o.list(group[0], listedPerObject*len(group), lately)
	var left kube.ResourceList
	for _, info := range group {
		one, is := listed[info.Name]
		switch {
		case is:
			kind := info.Mapping.GroupVersionKind
			one.APIVersion, one.Kind = kind.ToAPIVersionAndKind()
			found(info, urlOf(info).String(), &answer{status: http.StatusOK, header: jsonHeader(), body: jsonOf(one)})
		case whole:
			missing := apierrors.NewNotFound(info.Mapping.Resource.GroupResource(), info.Name).Status()
			missing.APIVersion, missing.Kind = "v1", "Status"
			found(info, urlOf(info).String(), &answer{status: http.StatusNotFound, header: jsonHeader(), body: jsonOf(missing)})
		default:
			left.Append(info)
		}
	}
	return left
}

// list returns the metadata of the first objects that are where this one is, by name, and whether those are all.
func (o *objects) list(like *resource.Info, most int, lately bool) (map[string]*metav1.PartialObjectMetadata, bool) {
	namespaced := resource.NewHelper(like.Client, like.Mapping).NamespaceScoped
	at := like.Client.Get().NamespaceIfScoped(like.Namespace, namespaced).
		Resource(like.Mapping.Resource.Resource).Param("limit", strconv.Itoa(most))
	place := at.URL().Path
	if lately {
		at = at.Param("resourceVersion", "0") // of which the whole list is given, however long
	}
	if o.cluster.ahead.isCrowded(place) {
		return nil, false
	}
	status, _, body := o.read(at.URL().String(), metadataOnly)
	var list metav1.PartialObjectMetadataList
	isList := status == http.StatusOK && json.Unmarshal(body, &list) == nil && list.Kind == "PartialObjectMetadataList"
	if list.Continue != "" || (!isList && status != 0 && status < http.StatusInternalServerError) {
		o.cluster.ahead.crowd(place)
	}
	if !isList {
		return nil, false
	}
	listed := map[string]*metav1.PartialObjectMetadata{}
	for index := range list.Items {
		listed[list.Items[index].Name] = &list.Items[index]
	}
	return listed, list.Continue == ""
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

func urlOf(info *resource.Info) *url.URL {
	namespaced := resource.NewHelper(info.Client, info.Mapping).NamespaceScoped
	return info.Client.Get().NamespaceIfScoped(info.Namespace, namespaced).
		Resource(info.Mapping.Resource.Resource).Name(info.Name).URL()
}

// ask looks one object up; nil if that is to be tried again, by whoever needs it.
func (o *objects) ask(info *resource.Info) (*answer, string) {
	at := urlOf(info).String()
	status, header, body := o.read(at, "application/json")
	if status != http.StatusOK && status != http.StatusNotFound {
		return nil, ""
	}
	return &answer{status: status, header: header, body: body}, at
}

// read returns an answer; a status of 0 is none.
func (o *objects) read(at, accept string) (int, http.Header, []byte) {
	request, err := http.NewRequest(http.MethodGet, at, http.NoBody) //nolint:noctx // ends with the process
	if err != nil {
		return 0, nil, nil
	}
	request.Header.Set("Accept", accept)
	response, err := o.cluster.http.Do(request)
	if err != nil {
		return 0, nil, nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	switch {
	case err != nil:
		return 0, nil, nil
	case len(body) == longestAnswer:
		return http.StatusRequestEntityTooLarge, nil, nil
	}
	return response.StatusCode, response.Header, body
}
