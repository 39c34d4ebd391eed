package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
)

const keptClusters = 32

var errElsewhere = errors.New("the API server sends us to another address, which is not followed")

// clusters keeps what is known of the last clusters, each under its kubeconfig: two accounts never share anything.
type clusters struct {
	limits    options
	connector *connector
	kept      []*cluster // the last used one at the end
}

// cluster is one cluster as one kubeconfig sees it: open connections and what was discovered.
type cluster struct {
	digest    [sha256.Size]byte
	route     *route
	config    *rest.Config
	http      *http.Client
	discovery *checkedDiscovery
	mapper    *checkedMapper
	clients   *kubernetes.Clientset
	dynamic   dynamic.Interface
	ahead     *readAhead
	raw       clientcmd.ClientConfig

	generation   int
	capabilities *common.Capabilities
}

// open returns the cluster of a kubeconfig, for one operation, which calls release at its end.
func (c *clusters) open(kubeconfig string, during call) (*cluster, error) {
	if strings.TrimSpace(kubeconfig) == "" {
		return nil, refusal{kind: unreachableError, message: "the kubeconfig is empty"}
	}
	digest := sha256.Sum256([]byte(kubeconfig))
	index := slices.IndexFunc(c.kept, func(one *cluster) bool { return one.digest == digest })
	var found *cluster
	if index >= 0 {
		found = c.kept[index]
		c.kept = slices.Delete(c.kept, index, index+1)
	} else {
		made, err := c.connect(kubeconfig)
		if err != nil {
			return nil, refusal{kind: unreachableError, message: fmt.Sprintf("the kubeconfig cannot be used: %v", err)}
		}
		made.digest, found = digest, made
	}
	c.kept = append(c.kept, found)
	if len(c.kept) > keptClusters {
		c.kept[0].route.shut()
		c.kept = slices.Delete(c.kept, 0, 1)
	}
	found.route.open(during)
	found.discovery.begin()
	return found, nil
}

// release ends an operation: no new connection from here on, and open ones wait for the next.
func (c *cluster) release() {
	c.ahead.forget()
	c.route.close()
}

func (c *clusters) connect(kubeconfig string) (*cluster, error) {
	raw, err := clientcmd.NewClientConfigFromBytes([]byte(kubeconfig))
	if err != nil {
		return nil, err
	}
	config, err := raw.ClientConfig()
	if err != nil {
		return nil, err
	}
	if config.ExecProvider != nil || config.AuthProvider != nil {
		return nil, errors.New("it runs a program for its credentials")
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, err
	}
	made := &cluster{raw: raw, route: newRoute(target, c.connector)}
	config.Dial = made.route.dial
	config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } //nolint:nilnil // no proxy
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		// Where only HTTP/1.1 is spoken, as many connections are kept as work at a time.
		if plain, is := next.(*http.Transport); is {
			plain.MaxIdleConnsPerHost = max(plain.MaxIdleConnsPerHost, c.limits.ParallelObjects)
		}
		return next
	})
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	made.ahead = &readAhead{next: &pacedTransport{
		next:  &straightTransport{next: transport},
		paces: flowcontrol.NewTokenBucketRateLimiter(c.limits.QPS, c.limits.Burst),
	}}
	tags := &taggedTransport{next: made.ahead, prefix: strings.TrimSuffix(target.Path, "/")}
	// One transport for every client, with credentials and TLS in it: each of Helm's clients would make its own.
	made.config = &rest.Config{
		Host:        config.Host,
		APIPath:     config.APIPath,
		Transport:   made.ahead,
		RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter(), // pacedTransport has it
		UserAgent:   "pilothouse Helm/" + strings.TrimPrefix(common.DefaultCapabilities.HelmVersion.Version, "v"),
	}
	if made.http, err = rest.HTTPClientFor(made.config); err != nil {
		return nil, err
	}
	// Only what is kept has its tags remembered: Helm's waiters discover for themselves.
	discovering := rest.CopyConfig(made.config)
	discovering.Transport = tags
	discoverer, err := discovery.NewDiscoveryClientForConfig(discovering)
	if err != nil {
		return nil, err
	}
	made.discovery = &checkedDiscovery{
		CachedDiscoveryInterface: memory.NewMemCacheClient(discoverer), tags: tags, http: made.http, host: made.config.Host,
	}
	made.mapper = &checkedMapper{discovery: made.discovery}
	if made.clients, err = kubernetes.NewForConfigAndClient(made.config, made.http); err != nil {
		return nil, err
	}
	made.dynamic, err = dynamic.NewForConfigAndClient(made.config, made.http)
	return made, err
}

// reach asks for the cluster's version, and at the same time whether what is known of its kinds still holds.
func (c *cluster) reach(kinds bool) error {
	checked := make(chan struct{})
	go func() {
		if kinds {
			c.discovery.Invalidate()
		}
		close(checked)
	}()
	served, err := c.discovery.ServerVersion()
	<-checked
	if err != nil {
		return fmt.Errorf("kubernetes cluster unreachable: %w", err)
	}
	if kinds {
		return c.learn(served)
	}
	return nil
}

// learn fills what templates see as .Capabilities, as Helm itself does.
func (c *cluster) learn(served *version.Info) error {
	if c.capabilities == nil || c.generation != c.discovery.generation {
		generation := c.discovery.generation
		versions, err := action.GetVersionSet(c.discovery)
		if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
			return fmt.Errorf("could not get apiVersions from Kubernetes: %w", err)
		}
		c.generation = generation
		c.capabilities = &common.Capabilities{
			APIVersions: versions, HelmVersion: common.DefaultCapabilities.HelmVersion,
		}
	}
	c.capabilities.KubeVersion = common.KubeVersion{Version: served.GitVersion, Major: served.Major, Minor: served.Minor}
	return nil
}

// ToRESTConfig makes the cluster a RESTClientGetter, as the other three do.
func (c *cluster) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(c.config), nil }

// ToDiscoveryClient returns what was discovered.
func (c *cluster) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return c.discovery, nil
}

// ToRESTMapper returns where the kinds are served.
func (c *cluster) ToRESTMapper() (meta.RESTMapper, error) { return c.mapper, nil }

// ToRawKubeConfigLoader returns the kubeconfig as it was given.
func (c *cluster) ToRawKubeConfigLoader() clientcmd.ClientConfig { return c.raw }

var _ action.RESTClientGetter = (*cluster)(nil)

// route leads to one server, through our parent's connections, while an operation runs.
type route struct {
	target    string
	connector *connector

	lock   sync.Mutex
	during call
	opened map[*connection]struct{}
}

type connection struct {
	net.Conn
	route   *route
	address string
}

func newRoute(target *url.URL, connector *connector) *route {
	port := target.Port()
	if port == "" {
		port = map[string]string{"http": "80"}[target.Scheme]
	}
	if port == "" {
		port = "443"
	}
	return &route{
		target: net.JoinHostPort(target.Hostname(), port), connector: connector, opened: map[*connection]struct{}{},
	}
}

// open lets an operation connect; connections that lead to other addresses than its own end.
func (r *route) open(during call) {
	r.connector.begin(during.number)
	r.lock.Lock()
	defer r.lock.Unlock()
	r.during = during
	r.endAll(func(one *connection) bool { return !slices.Contains(during.addresses, one.address) })
}

func (r *route) close() {
	r.connector.end()
	r.lock.Lock()
	defer r.lock.Unlock()
	r.during = call{}
}

// shut ends every connection: the cluster is forgotten.
func (r *route) shut() {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.endAll(func(*connection) bool { return true })
}

func (r *route) endAll(ends func(*connection) bool) {
	for one := range r.opened {
		if ends(one) {
			delete(r.opened, one)
			_ = one.Conn.Close() // it is given up anyway
		}
	}
}

func (c *connection) Close() error {
	c.route.lock.Lock()
	delete(c.route.opened, c)
	c.route.lock.Unlock()
	return c.Conn.Close()
}

// dial returns a connection to the server, and to nothing else; an error has the server's name, and no address.
func (r *route) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if !strings.EqualFold(address, r.target) {
		return nil, errElsewhere
	}
	r.lock.Lock()
	during := r.during
	r.lock.Unlock()
	made, index, err := r.connector.connect(ctx, during)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: name(r.target), Err: err}
	}
	wrapped := &connection{Conn: made, route: r, address: during.addresses[index]}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.opened[wrapped] = struct{}{}
	return wrapped, nil
}

// name is a net.Addr that prints as it is.
type name string

func (n name) Network() string { return "tcp" }

func (n name) String() string { return string(n) }

// pacedTransport sends no more requests than the settings allow; what was looked up ahead is no request.
type pacedTransport struct {
	next  http.RoundTripper
	paces flowcontrol.RateLimiter
}

func (p *pacedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := p.paces.Wait(request.Context()); err != nil {
		return nil, err
	}
	return p.next.RoundTrip(request)
}

// straightTransport follows no redirect.
type straightTransport struct {
	next http.RoundTripper
}

func (s *straightTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := s.next.RoundTrip(request)
	if err == nil && answer.StatusCode >= 300 && answer.StatusCode < 400 && answer.Header.Get("Location") != "" {
		_ = answer.Body.Close() // nothing of it is read
		return nil, errElsewhere
	}
	return answer, err
}

// taggedTransport remembers the entity tags of the discovery documents, by which they are known to be unchanged.
type taggedTransport struct {
	next   http.RoundTripper
	prefix string
	lock   sync.Mutex
	tags   map[string]tag
}

type tag struct {
	accept, value string
}

var discoveryPaths = []string{"/api", "/apis"}

func (t *taggedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(request)
	if err == nil && request.Method == http.MethodGet && answer.StatusCode == http.StatusOK {
		at := strings.TrimPrefix(request.URL.Path, t.prefix)
		if value := answer.Header.Get("ETag"); value != "" && slices.Contains(discoveryPaths, at) {
			t.lock.Lock()
			if t.tags == nil {
				t.tags = map[string]tag{}
			}
			t.tags[at] = tag{accept: request.Header.Get("Accept"), value: value}
			t.lock.Unlock()
		}
	}
	return answer, err
}

// unchanged asks the cluster whether it still serves what was discovered.
func (t *taggedTransport) unchanged(client *http.Client, host string) bool {
	same := make(chan bool, len(discoveryPaths))
	for _, at := range discoveryPaths {
		t.lock.Lock()
		known := t.tags[at]
		t.lock.Unlock()
		go func() { same <- known.value != "" && asksUnchanged(client, strings.TrimSuffix(host, "/")+at, known) }()
	}
	all := true
	for range discoveryPaths {
		all = <-same && all
	}
	return all
}

func asksUnchanged(client *http.Client, at string, known tag) bool {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, at, http.NoBody)
	if err != nil {
		return false
	}
	request.Header.Set("Accept", known.accept)
	request.Header.Set("If-None-Match", known.value)
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close() // only the status counts
	return answer.StatusCode == http.StatusNotModified
}

// checkedDiscovery is what was discovered of a cluster, thrown away only when the cluster says that it changed.
type checkedDiscovery struct {
	discovery.CachedDiscoveryInterface
	tags *taggedTransport
	http *http.Client
	host string

	lock       sync.Mutex
	generation int
	checked    bool
}

// begin starts an operation: what is known was not checked in it yet.
func (d *checkedDiscovery) begin() {
	d.lock.Lock()
	defer d.lock.Unlock()
	d.checked = false
}

// Invalidate throws away what is no longer so.
func (d *checkedDiscovery) Invalidate() {
	d.lock.Lock()
	defer d.lock.Unlock()
	d.checked = true
	if d.tags.unchanged(d.http, d.host) {
		return
	}
	d.generation++
	d.CachedDiscoveryInterface.Invalidate()
}

// current returns a number that changes with what is served, and whether the running operation asked for it.
func (d *checkedDiscovery) current() (generation int, checked bool) {
	d.lock.Lock()
	defer d.lock.Unlock()
	return d.generation, d.checked
}

// checkedMapper knows where kinds are served; a kind that is not known is looked for again, once in an operation.
type checkedMapper struct {
	discovery *checkedDiscovery

	lock       sync.Mutex
	delegate   meta.RESTMapper
	generation int
}

func (m *checkedMapper) get() (meta.RESTMapper, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	generation, _ := m.discovery.current()
	if m.delegate == nil || m.generation != generation {
		groups, err := restmapper.GetAPIGroupResources(m.discovery)
		if err != nil {
			return nil, err
		}
		m.delegate, m.generation = restmapper.NewDiscoveryRESTMapper(groups), generation
	}
	return m.delegate, nil
}

func ask[T any](m *checkedMapper, question func(meta.RESTMapper) (T, error)) (T, error) {
	var none T
	delegate, err := m.get()
	if err != nil {
		return none, err
	}
	answer, err := question(delegate)
	if _, checked := m.discovery.current(); !meta.IsNoMatchError(err) || checked {
		return answer, err
	}
	m.discovery.Invalidate()
	if delegate, err = m.get(); err != nil {
		return none, err
	}
	return question(delegate)
}

// unavailable returns why it is not known what the cluster serves of a group; nil if that is known.
//
// The API server lists a group whose own server does not answer without its kinds, and says that the list is incomplete.
func (m *checkedMapper) unavailable(group string) error {
	_, _, err := m.discovery.ServerGroupsAndResources()
	failed, is := discovery.GroupDiscoveryFailedErrorGroups(err)
	if !is {
		return err
	}
	for version, cause := range failed {
		if version.Group == group {
			return refusal{kind: unreachableError, message: fmt.Sprintf("the API server of %s does not answer: %v", version, cause)}
		}
	}
	return nil
}

// Reset looks whether the cluster serves something else now.
func (m *checkedMapper) Reset() { m.discovery.Invalidate() }

// KindFor and the following are those of meta.RESTMapper.
func (m *checkedMapper) KindFor(resource schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return ask(m, func(d meta.RESTMapper) (schema.GroupVersionKind, error) { return d.KindFor(resource) })
}

// KindsFor returns the kinds of a resource.
func (m *checkedMapper) KindsFor(resource schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	return ask(m, func(d meta.RESTMapper) ([]schema.GroupVersionKind, error) { return d.KindsFor(resource) })
}

// ResourceFor returns the whole of a partial resource.
func (m *checkedMapper) ResourceFor(input schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return ask(m, func(d meta.RESTMapper) (schema.GroupVersionResource, error) { return d.ResourceFor(input) })
}

// ResourcesFor returns all that a partial resource can mean.
func (m *checkedMapper) ResourcesFor(input schema.GroupVersionResource) ([]schema.GroupVersionResource, error) {
	return ask(m, func(d meta.RESTMapper) ([]schema.GroupVersionResource, error) { return d.ResourcesFor(input) })
}

// RESTMapping returns where a kind is served.
func (m *checkedMapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return ask(m, func(d meta.RESTMapper) (*meta.RESTMapping, error) { return d.RESTMapping(kind, versions...) })
}

// RESTMappings returns everywhere that a kind is served.
func (m *checkedMapper) RESTMappings(kind schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return ask(m, func(d meta.RESTMapper) ([]*meta.RESTMapping, error) { return d.RESTMappings(kind, versions...) })
}

// ResourceSingularizer returns the singular of a resource.
func (m *checkedMapper) ResourceSingularizer(resource string) (string, error) {
	return ask(m, func(d meta.RESTMapper) (string, error) { return d.ResourceSingularizer(resource) })
}
