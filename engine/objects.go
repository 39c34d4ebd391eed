package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

const (
	managedByLabel      = "app.kubernetes.io/managed-by"
	managedByHelm       = "Helm"
	releaseAnnotation   = "meta.helm.sh/release-name"
	namespaceAnnotation = "meta.helm.sh/release-namespace"
)

var namespaceKind = schema.GroupKind{Kind: "Namespace"}

// objects is Helm's client of a cluster, for one operation on one release: it tells what it does, does what can be done
// at once side by side (kinds still in Helm's order), and deletes nothing that another release owns by now.
type objects struct {
	*kube.Client
	cluster  *cluster
	progress *progress
	parallel int

	release, namespace string
	// hooks are what Helm built in order to run it: it asks for the schema check then, and only then.
	hooks map[*resource.Info]bool
	// past is the manifest of the newest stored revision, in which may stand what the cluster serves no more; current
	// are its objects. With allPast, every manifest is such a one.
	past    string
	allPast bool
	current kube.ResourceList
	// looks: Helm looks up, one by one, what was built; but not of hooks, whose stored manifests these are. If it compares
	// that with what the past has, it looks only at what is new.
	looks, compares bool
	// looksTwice: of each object that it updates, Helm looks up whether it is there and who manages its fields.
	looksTwice bool
	stored     map[string]bool
	deletedErr []error
	// defined are the CRDs that the operation made; brought are the kinds that a dry run does not define.
	defined kube.ResourceList
	brought map[[2]string]bool
	// removesNamespace: an update may delete the namespace that the release is in.
	removesNamespace bool
	// replaces: an update replaces objects, for which each is read as it is at that moment.
	replaces bool
}

func newObjects(of *cluster, progress *progress, parallel int, release, namespace string) *objects {
	client := kube.New(of)
	client.Namespace = namespace
	return &objects{
		Client: client, cluster: of, progress: progress, parallel: max(1, parallel),
		release: release, namespace: namespace, hooks: map[*resource.Info]bool{}, stored: map[string]bool{},
	}
}

// IsReachable is true: cluster.reach has asked already.
func (o *objects) IsReachable() error { return nil }

// Build returns the objects of a manifest. The client's schema check is left out: with server-side apply the API server
// says the same, for half the time.
func (o *objects) Build(reader io.Reader, isHook bool) (kube.ResourceList, error) {
	text, err := io.ReadAll(reader)
	if err != nil {
		return nil, err
	}
	var built kube.ResourceList
	isPast := o.allPast || (o.past != "" && o.past == string(text))
	if isPast {
		built, err = o.buildPast(text)
	} else {
		built, err = o.buildNew(text)
	}
	switch {
	case err != nil:
		if o.allPast && !isHook {
			o.deletedErr = []error{err}
		}
	case isHook:
		for _, info := range built {
			o.hooks[info] = true
		}
	case o.stored[string(text)]:
	case isPast && !o.allPast:
		o.current = built
	case o.allPast && o.looks:
		if err = o.lookAtAll(built); err != nil {
			o.deletedErr = []error{err}
		}
	case o.looks && (!o.compares || o.current != nil):
		o.look(built.Difference(o.current), 1, false, nil)
	}
	return built, err
}

// lookAtAll looks up all objects of an uninstall, and tells of those that stay.
//
// Helm skips what it cannot read, deletes the rest, and with it the release: nothing would know of the skipped any more.
// So what cannot be read is an error, before anything is deleted.
func (o *objects) lookAtAll(built kube.ResourceList) error {
	unread := o.look(built, 1, false, func(info *resource.Info, live *metav1.PartialObjectMetadata) {
		if owner := o.otherOwner(live); owner != "" {
			o.progress.left(info, "left alone, "+owner)
		}
	})
	failures := o.each(unread, func(info *resource.Info) error {
		_, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
		if err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%s %s: %w", info.Mapping.GroupVersionKind.Kind, info.Name, err)
	})
	if err := joined(failures, "; "); err != nil {
		return fmt.Errorf("nothing was deleted, as some of its objects cannot be read: %w", err)
	}
	return nil
}

// buildPast returns the objects of a stored manifest, without those that can not be in the cluster: of kinds that it
// does not serve, or without what names them.
//
// Of a group whose API server does not answer it is not known what it serves: objects of it may well be there.
func (o *objects) buildPast(text []byte) (kube.ResourceList, error) {
	built, err := o.Client.Build(bytes.NewReader(text), false)
	if err == nil {
		return built, nil
	}
	var kept bytes.Buffer
	left := 0
	for _, document := range documentsOf(string(text)) {
		found, broken := identify(document.text)
		if broken != nil || found.problem() != "" {
			left++
			continue
		}
		mapping, missing := o.cluster.mapper.RESTMapping(found.groupKind(), found.version())
		if meta.IsNoMatchError(missing) {
			if unknown := o.cluster.mapper.unavailable(found.groupKind().Group); unknown != nil {
				return nil, unknown
			}
			left++
			o.progress.send(progressEvent{
				Phase: phaseLeft, ObjectKind: found.Kind, ObjectName: found.Metadata.Name,
				ObjectNamespace: found.Metadata.Namespace,
				Message:         fmt.Sprintf("%s %s: the cluster serves no %s any more", found.Kind, found.Metadata.Name, found.APIVersion),
			})
			continue
		}
		if missing != nil || mapping == nil {
			return nil, err
		}
		kept.WriteString("\n---\n" + document.text)
	}
	if left == 0 {
		return built, err
	}
	return o.Client.Build(&kept, false)
}

// Create applies objects that are not there yet.
func (o *objects) Create(list kube.ResourceList, options ...kube.ClientCreateOption) (*kube.Result, error) {
	if len(list) == 0 {
		return o.Client.Create(list, options...)
	}
	phase := o.phaseOf(list, phaseApply)
	counter := o.count(phase, len(list))
	failures := o.each(list, func(info *resource.Info) error {
		if _, err := o.Client.Create(kube.ResourceList{info}, options...); err != nil {
			return err
		}
		counter.applied(info)
		return nil
	})
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	o.defines(list)
	return &kube.Result{Created: list}, nil
}

// Update applies the objects of the new revision, and deletes those that only the old one had.
func (o *objects) Update(
	originals, targets kube.ResourceList, options ...kube.ClientUpdateOption,
) (*kube.Result, error) {
	result := &kube.Result{}
	var lock sync.Mutex
	var ended error
	uses := 1
	if o.looksTwice {
		uses = 2
	}
	// Whether an object of the old revision is there decides of nothing but how its apply is counted: what the cache has
	// will do. Of a new one that is there Helm asks again, and fails if it is gone by then.
	if !o.replaces {
		o.look(targets.Intersect(originals), uses, true, nil)
		o.look(targets.Difference(originals), uses, false, nil)
	}
	counter := o.count(phaseApply, len(targets))
	failures := o.each(targets, func(target *resource.Info) error {
		lock.Lock()
		over := ended != nil
		lock.Unlock()
		if over {
			return nil
		}
		before := kube.ResourceList{}
		if original := originals.Get(target); original != nil {
			before.Append(original)
		}
		one, err := o.Client.Update(before, kube.ResourceList{target}, options...)
		lock.Lock()
		result.Created, result.Updated = append(result.Created, one.Created...), append(result.Updated, one.Updated...)
		// Helm goes on after an object that it could not change, and ends at one that it could not see or make.
		if _, goesOn := err.(interface{ Unwrap() []error }); err != nil && !goesOn && ended == nil { //nolint:errorlint // its own
			ended = err
		}
		lock.Unlock()
		if err == nil {
			counter.applied(target)
		}
		return err
	})
	if ended != nil {
		return result, ended
	}
	if err := joined(failures, " && "); err != nil {
		return result, err
	}
	o.defines(targets)
	failures = o.each(originals.Difference(targets), func(info *resource.Info) error {
		deleted, err := o.drop(info)
		if deleted {
			lock.Lock()
			result.Deleted.Append(info)
			lock.Unlock()
		}
		return err
	})
	return result, joined(failures, " && ")
}

// tellKept names what an uninstall left because the manifest says so, if it is there.
func (o *objects) tellKept() {
	for _, document := range documentsOf(o.past) {
		found, err := identify(document.text)
		policy := strings.ToLower(strings.TrimSpace(found.Metadata.Annotations[kube.ResourcePolicyAnno]))
		if err != nil || policy != kube.KeepPolicy {
			continue
		}
		list, err := o.Client.Build(strings.NewReader(document.text), false)
		if err != nil {
			continue // it cannot be there
		}
		for _, info := range list {
			if live, err := find(info); err != nil || live != nil {
				o.progress.left(info, "kept, as its annotation helm.sh/resource-policy says")
			}
		}
	}
}

// drop deletes what the new revision no longer has, if it is still the release's and not to be kept.
func (o *objects) drop(info *resource.Info) (bool, error) {
	if err := info.Get(); err != nil {
		return false, nil //nolint:nilerr // as Helm: what cannot be seen is left alone
	}
	accessor, err := meta.Accessor(info.Object)
	if err != nil {
		return false, err
	}
	if accessor.GetAnnotations()[kube.ResourcePolicyAnno] == kube.KeepPolicy {
		o.progress.left(info, "kept, as its annotation helm.sh/resource-policy says")
		return false, nil
	}
	if owner := o.otherOwner(accessor); owner != "" {
		o.progress.left(info, "left alone, "+owner)
		return false, nil
	}
	if info.Mapping.GroupVersionKind.GroupKind() == namespaceKind && info.Name == o.namespace && !o.removesNamespace {
		o.progress.left(info, "left alone, because the release's own record is in it")
		return false, nil
	}
	o.progress.send(about(phaseDelete, info))
	_, failures := o.Client.Delete(kube.ResourceList{info}, metav1.DeletePropagationBackground)
	if len(failures) > 0 {
		return false, fmt.Errorf("failed to delete resource namespace=%s, name=%s, kind=%s: %w",
			info.Namespace, info.Name, info.Mapping.GroupVersionKind.Kind, errors.Join(failures...))
	}
	return true, nil
}

// otherOwner says who owns an object if it is not, or no longer, this release's.
func (o *objects) otherOwner(accessor metav1.Object) string {
	annotations := accessor.GetAnnotations()
	name, namespace := annotations[releaseAnnotation], annotations[namespaceAnnotation]
	if name != "" && (name != o.release || namespace != o.namespace) {
		return fmt.Sprintf("because it belongs to release %q in namespace %q", name, namespace)
	}
	if name == "" || accessor.GetLabels()[managedByLabel] != managedByHelm {
		return "because it no longer bears the marks of this release"
	}
	return ""
}

// Delete deletes objects, and remembers why some could not be: Helm's own error names the release and nothing else, as it
// does if they cannot be built.
func (o *objects) Delete(list kube.ResourceList, policy metav1.DeletionPropagation) (*kube.Result, []error) {
	if len(list) == 0 {
		return o.Client.Delete(list, policy)
	}
	failures := o.each(list, func(info *resource.Info) error {
		o.progress.send(about(phaseDelete, info))
		_, failed := o.Client.Delete(kube.ResourceList{info}, policy)
		return errors.Join(failed...)
	})
	if len(failures) > 0 {
		o.deletedErr = failures
		return nil, failures
	}
	return &kube.Result{Deleted: list}, nil
}

// each does something with all objects, side by side within a kind; what failed, in the order of the objects.
func (o *objects) each(list kube.ResourceList, do func(*resource.Info) error) []error {
	failures := make([]error, len(list))
	places := make(chan struct{}, o.parallel)
	var running sync.WaitGroup
	kind := ""
	for index, info := range list {
		if own := info.Object.GetObjectKind().GroupVersionKind().Kind; own != kind {
			running.Wait()
			kind = own
		}
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			failures[index] = do(info)
		})
	}
	running.Wait()
	found := failures[:0]
	for _, failure := range failures {
		if failure != nil {
			found = append(found, failure)
		}
	}
	return found
}

func (o *objects) phaseOf(list kube.ResourceList, otherwise string) string {
	if len(list) > 0 && o.hooks[list[0]] {
		return phaseHook
	}
	return otherwise
}

// counter counts the objects of one batch.
type counter struct {
	progress    *progress
	phase       string
	lock        sync.Mutex
	done, total int
}

func (o *objects) count(phase string, total int) *counter {
	o.progress.send(progressEvent{Phase: phase, Message: "applying objects"}.counted(0, total))
	return &counter{progress: o.progress, phase: phase, total: total}
}

func (c *counter) applied(info *resource.Info) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.done++
	c.progress.send(about(c.phase, info).counted(c.done, c.total))
}

// joinedError is several errors in one line, as Helm writes them.
type joinedError struct {
	failures  []error
	separator string
}

func joined(failures []error, separator string) error {
	if len(failures) == 0 {
		return nil
	}
	return &joinedError{failures: failures, separator: separator}
}

func (j *joinedError) Error() string {
	texts := make([]string, 0, len(j.failures))
	for _, failure := range j.failures {
		texts = append(texts, failure.Error())
	}
	return strings.Join(texts, j.separator)
}

func (j *joinedError) Unwrap() []error { return j.failures }

// find returns an object as it is in the cluster; nil if it is not there.
func find(info *resource.Info) (runtime.Object, error) {
	found, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // not there
	}
	return found, err
}
