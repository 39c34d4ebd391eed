package main

import (
	"slices"

	"helm.sh/helm/v4/pkg/release"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	kblabels "k8s.io/apimachinery/pkg/labels"
)

// records is Helm's storage of revisions in Secrets: it tells of every write, and lets us look at the first one.
type records struct {
	driver.Driver
	progress *progress
	objects  *objects
	// read are the answers since the last write: Helm asks for the same more than once.
	read map[string][]release.Releaser
	// before is called with a revision that is about to be stored for the first time: nothing was written yet.
	before func(*releasev1.Release) error
}

func newRecords(of *cluster, objects *objects, progress *progress) *records {
	secrets := driver.NewSecrets(of.clients.CoreV1().Secrets(objects.namespace))
	return &records{
		Driver: secrets, progress: progress, objects: objects, read: map[string][]release.Releaser{},
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
	found, err := r.Driver.Query(labels)
	if err != nil {
		return nil, err
	}
	r.read[asked] = slices.Clone(found)
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
		if err := r.before(made); err != nil {
			return err
		}
	}
	clear(r.read)
	r.progress.step(phaseStorage, "storing "+key)
	return r.Driver.Create(key, revision)
}

// Update stores a revision again.
func (r *records) Update(key string, revision release.Releaser) error {
	clear(r.read)
	r.progress.step(phaseStorage, "storing "+key+" again")
	return r.Driver.Update(key, revision)
}

// Delete removes a revision.
func (r *records) Delete(key string) (release.Releaser, error) {
	clear(r.read)
	r.progress.step(phaseStorage, "removing "+key)
	return r.Driver.Delete(key)
}
