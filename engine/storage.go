package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"helm.sh/helm/v4/pkg/release"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kblabels "k8s.io/apimachinery/pkg/labels"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// records is Helm's storage of revisions in Secrets: it tells of every write, and lets us look at the first one.
type records struct {
	driver.Driver
	secrets  corev1.SecretInterface
	client   rest.Interface
	progress *progress
	objects  *objects
	// read are the answers since the last write: Helm asks for the same more than once.
	read    map[string][]release.Releaser
	missing map[string]bool
	// known are the revisions that a query has found, by key: what is removed need not be read again.
	known map[string]release.Releaser
	// listed is the status of each revision; whole are those of which all that is stored was read, by key, too.
	listed map[string]string
	whole  map[string]release.Releaser
	// purges: all revisions are about to be removed, which is done at once but for the newest, and then that one.
	purges bool
	purged map[string]error
	// hooks are all hooks of the revision that is tested: Helm stores it without those that a filter leaves out.
	hooks []*releasev1.Hook
	// before is called with a revision that is about to be stored for the first time: nothing was written yet.
	before func(*releasev1.Release) error
	// only is the one number that a new revision may have; 0: any.
	only int
}

func newRecords(of *cluster, objects *objects, progress *progress) *records {
	secrets := of.clients.CoreV1().Secrets(objects.namespace)
	return &records{
		Driver: driver.NewSecrets(secrets), secrets: secrets, progress: progress, objects: objects,
		read: map[string][]release.Releaser{}, missing: map[string]bool{}, known: map[string]release.Releaser{},
		whole: map[string]release.Releaser{}, client: of.clients.CoreV1().RESTClient(),
		before: func(*releasev1.Release) error { return nil },
	}
}

func (r *records) storage() *storage.Storage { return storage.Init(r) }

// Query returns the revisions with these labels. The newest one's manifest is remembered, for kinds in it may be served
// no more.
func (r *records) Query(labels map[string]string) ([]release.Releaser, error) {
	asked := kblabels.Set(labels).String()
	if known, is := r.read[asked]; is {
		return slices.Clone(known), nil
	}
	if r.missing[asked] {
		return nil, driver.ErrReleaseNotFound
	}
	found, err := r.find(labels)
	if err != nil {
		if errors.Is(err, driver.ErrReleaseNotFound) {
			r.missing[asked] = true
		}
		return nil, err
	}
	r.read[asked] = slices.Clone(found)
	for _, one := range found {
		if stored, is := one.(*releasev1.Release); is {
			r.known[keyOf(stored)] = stored
		}
	}
	if newest := newestOf(found); newest != nil && r.objects.past == "" {
		r.objects.past = newest.Manifest
		for _, hook := range newest.Hooks {
			r.objects.stored[hook.Manifest] = true
		}
	}
	return found, nil
}

func newestOf(revisions []release.Releaser) *releasev1.Release {
	var newest *releasev1.Release
	for _, one := range revisions {
		if stored, is := one.(*releasev1.Release); is && (newest == nil || stored.Version > newest.Version) {
			newest = stored
		}
	}
	return newest
}

// Create stores a new revision.
func (r *records) Create(key string, revision release.Releaser) error {
	if made, is := revision.(*releasev1.Release); is {
		if r.only != 0 && made.Version != r.only {
			return taken(r.only)
		}
		if err := r.before(made); err != nil {
			return err
		}
	}
	r.forget()
	r.note(key, revision)
	r.progress.step(phaseStorage, "storing "+key)
	err := r.Driver.Create(key, revision)
	if r.only != 0 && errors.Is(err, driver.ErrReleaseExists) {
		return taken(r.only)
	}
	return err
}

// taken says that another writer made the revision: that can be a request that its sender did not live to see answered.
func taken(number int) error {
	return refusal{kind: revisionTaken, message: fmt.Sprintf("another writer has made revision %d", number)}
}

// Update stores a revision again.
func (r *records) Update(key string, revision release.Releaser) error {
	if stored, is := revision.(*releasev1.Release); is && r.hooks != nil {
		whole := *stored
		whole.Hooks = r.hooks
		revision = &whole
	}
	r.forget()
	r.note(key, revision)
	r.progress.step(phaseStorage, "storing "+key+" again")
	return r.Driver.Update(key, revision)
}

// Delete removes a revision. Helm's own would read it before, and remove one after the other.
func (r *records) Delete(key string) (release.Releaser, error) {
	r.forget()
	delete(r.listed, key)
	stored, is := r.known[key]
	if !is {
		r.progress.step(phaseStorage, "removing "+key)
		return r.Driver.Delete(key)
	}
	if r.purges {
		r.purgeOlder()
	}
	failure, done := r.purged[key]
	if !done {
		failure = r.remove(key)
	}
	delete(r.known, key)
	if failure != nil {
		return nil, failure
	}
	return stored, nil
}

// purgeOlder removes all revisions but the newest, side by side. Who looks for the release finds it until that one goes.
func (r *records) purgeOlder() {
	r.purges = false
	newest := ""
	if last := newestOf(slices.Collect(maps.Values(r.known))); last != nil {
		newest = keyOf(last)
	}
	var lock sync.Mutex
	var running sync.WaitGroup
	places := make(chan struct{}, r.objects.parallel)
	r.purged = map[string]error{}
	for key := range r.known {
		if key == newest {
			continue
		}
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			failure := r.remove(key)
			if errors.Is(failure, driver.ErrReleaseNotFound) {
				failure = nil // somebody else has removed it
			}
			lock.Lock()
			defer lock.Unlock()
			r.purged[key] = failure
		})
	}
	running.Wait()
}

func (r *records) remove(key string) error {
	r.progress.step(phaseStorage, "removing "+key)
	err := r.secrets.Delete(context.Background(), key, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return driver.ErrReleaseNotFound
	}
	return err
}

func (r *records) forget() {
	clear(r.read)
	clear(r.missing)
}

// keyOf returns the name of the Secret that holds a revision.
func keyOf(stored *releasev1.Release) string { return keyOfVersion(stored.Name, stored.Version) }
