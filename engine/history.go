package main

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"

	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/release"
	releasecommon "helm.sh/helm/v4/pkg/release/common"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	storedv1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kblabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/scheme"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// metadataOnly is the kind of list in which no object has more than its metadata.
const metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

// listedSecret is one revision's Secret, without what it holds.
type listedSecret struct {
	key, status string
	version     int
	metadata    *metav1.PartialObjectMetadata
}

// lookAhead finds the revisions of a release before Helm asks for them; what fails is asked again, and told, by Helm.
func (r *records) lookAhead(name string) {
	if chartutil.ValidateReleaseName(name) == nil {
		_, _ = r.Query(historyOf(name))
	}
}

func historyOf(name string) map[string]string {
	return map[string]string{"name": name, "owner": "helm"}
}

// find returns the revisions with these labels. Of a release's history only the newest is whole: Helm needs no more of
// the others than their numbers.
//
// A list that must be up to date makes the API server wait for its cache, 30 to 100 ms where much is written. So the
// list is as the cache has it, and two reads by name, which are always up to date, say whether its newest revision is
// the newest: it is there, and the next one is not. Otherwise, and for any other question, Helm's own list decides.
func (r *records) find(labels map[string]string) ([]release.Releaser, error) {
	name := labels["name"]
	if r.listed != nil && len(labels) == 3 && labels["owner"] == "helm" && labels["status"] == deployedStatus {
		return r.findDeployed(labels)
	}
	if len(labels) != 2 || name == "" || labels["owner"] != "helm" {
		return r.Driver.Query(labels)
	}
	r.listed = nil
	listed, err := r.list(labels)
	if err != nil {
		return r.Driver.Query(labels)
	}
	newest, sure := r.confirm(name, listed)
	if !sure {
		return r.Driver.Query(labels)
	}
	if newest == nil {
		return nil, driver.ErrReleaseNotFound
	}
	found, err := r.decode(labels, *newest)
	if last := newestOf(found); err != nil || last == nil || keyOf(last) != newest.Name {
		return r.Driver.Query(labels)
	}
	r.listed = map[string]string{}
	r.whole[newest.Name] = found[0]
	r.listed[newest.Name] = newest.Labels["status"]
	for _, one := range listed[:len(listed)-1] {
		r.listed[one.key] = one.status
		found = append(found, &releasev1.Release{
			Name: name, Namespace: one.metadata.Namespace, Version: one.version, Labels: one.metadata.Labels,
			Info: &releasev1.Info{Status: releasecommon.Status(one.status)},
		})
	}
	return found, nil
}

const deployedStatus = "deployed"

// list returns the revisions that the API server's cache has, the newest last.
func (r *records) list(labels map[string]string) ([]listedSecret, error) {
	options := metav1.ListOptions{LabelSelector: kblabels.Set(labels).String(), ResourceVersion: "0"}
	text, err := r.client.Get().Namespace(r.objects.namespace).Resource("secrets").SetHeader("Accept", metadataOnly).
		VersionedParams(&options, scheme.ParameterCodec).Do(context.Background()).Raw()
	if err != nil {
		return nil, err
	}
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	listed := make([]listedSecret, 0, len(list.Items))
	for index := range list.Items {
		one := &list.Items[index]
		version, err := strconv.Atoi(one.Labels["version"])
		if err != nil {
			return nil, err
		}
		listed = append(listed, listedSecret{key: one.Name, status: one.Labels["status"], version: version, metadata: one})
	}
	slices.SortFunc(listed, func(a, b listedSecret) int { return a.version - b.version })
	return listed, nil
}

// confirm reads the newest of the revisions, nil if there is none, and makes sure that there is no newer one.
func (r *records) confirm(name string, listed []listedSecret) (*storedv1.Secret, bool) {
	last := 0
	if len(listed) > 0 {
		last = listed[len(listed)-1].version
	}
	var running sync.WaitGroup
	isNewest := false
	running.Go(func() {
		_, err := r.secrets.Get(context.Background(), keyOfVersion(name, last+1), metav1.GetOptions{})
		isNewest = apierrors.IsNotFound(err)
	})
	var newest *storedv1.Secret
	if last > 0 {
		found, err := r.secrets.Get(context.Background(), keyOfVersion(name, last), metav1.GetOptions{})
		if err == nil {
			newest = found
		}
	}
	running.Wait()
	return newest, isNewest && (newest != nil) == (last > 0)
}

// findDeployed returns the revisions that are deployed, whole.
func (r *records) findDeployed(labels map[string]string) ([]release.Releaser, error) {
	var found []release.Releaser
	var secrets []storedv1.Secret
	for key, status := range r.listed {
		if status != deployedStatus {
			continue
		}
		if whole := r.whole[key]; whole != nil {
			found = append(found, whole)
			continue
		}
		secret, err := r.secrets.Get(context.Background(), key, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case secret.Labels["status"] == deployedStatus:
			secrets = append(secrets, *secret)
		}
	}
	if len(secrets) > 0 {
		more, err := r.decode(labels, secrets...)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	if len(found) == 0 {
		return nil, driver.ErrReleaseNotFound
	}
	return found, nil
}

// note remembers what is about to be stored.
func (r *records) note(key string, revision release.Releaser) {
	if made, is := revision.(*releasev1.Release); is && r.listed != nil {
		r.listed[key], r.whole[key] = made.Info.Status.String(), made
	}
}

// decode returns the revisions that the Secrets hold, by Helm's own reader.
func (r *records) decode(labels map[string]string, secrets ...storedv1.Secret) ([]release.Releaser, error) {
	return driver.NewSecrets(&readSecrets{SecretInterface: r.secrets, items: secrets}).Query(labels)
}

// readSecrets lists Secrets that were read before.
type readSecrets struct {
	corev1.SecretInterface
	items []storedv1.Secret
}

// List returns them.
func (r *readSecrets) List(context.Context, metav1.ListOptions) (*storedv1.SecretList, error) {
	return &storedv1.SecretList{Items: r.items}, nil
}

// keyOfVersion returns the name of the Secret that holds a revision, as Helm makes it.
func keyOfVersion(name string, version int) string {
	return storage.HelmStorageType + "." + name + ".v" + strconv.Itoa(version)
}
