package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	podsv1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// What is kept of the logs of a release's tests.
const (
	mostTestLogs  = 10
	mostLogLines  = 1000
	mostLogSent   = 64 << 10 // more than is shown: a secret that is cut is no longer recognised
	testsLogTime  = 5 * time.Second
	testsLogGrace = 1500 * time.Millisecond
)

// test runs the tests of the newest revision, which has to be the one that was asked for.
//
// That a test failed is an outcome, so that the logs come with it: they are read before Helm removes the pods.
func (e *engine) test(request *runTestsRequest, during call, progress *progress) (*runTestsOutcome, error) {
	until := time.Now().Add(seconds(request.TimeoutSeconds))
	running, err := e.begin(request.Kubeconfig, request.Namespace, request.ReleaseName, during, progress)
	if err != nil {
		return nil, err
	}
	defer running.cluster.release()
	running.records.guard()
	if err := running.reach(); err != nil {
		return nil, err
	}
	newest, err := running.configuration.Releases.Last(request.ReleaseName)
	if err != nil {
		return nil, err
	}
	stored, is := newest.(*releasev1.Release)
	if !is || stored.Version != request.Revision {
		return nil, refusal{kind: releaseError, message: fmt.Sprintf(
			"revision %d is not the newest of release %q any more; run the tests of the newest", request.Revision, request.ReleaseName)}
	}
	running.records.hooks = slices.Clone(stored.Hooks)
	helm := action.NewReleaseTesting(running.configuration)
	helm.Namespace, helm.Timeout = request.Namespace, seconds(request.TimeoutSeconds)
	helm.Filters = map[string][]string{
		action.IncludeNameFilter: request.Include, action.ExcludeNameFilter: request.Exclude,
	}
	began := time.Now()
	_, cleanUp, err := helm.Run(request.ReleaseName)
	outcome := &runTestsOutcome{Tests: testsSince(running.records.hooks, began), Pods: []testedPod{}}
	outcome.Pods = running.podsOf(outcome.Tests, min(testsLogTime, max(testsLogGrace, time.Until(until))))
	if failure := errors.Join(err, cleanUp()); failure != nil {
		if len(outcome.Tests) == 0 {
			return nil, failure
		}
		outcome.Failure, outcome.FailureKind = failure.Error(), classify(failure)
	}
	return outcome, nil
}

// testsSince returns the tests that have begun since then, in the order in which they did.
func testsSince(hooks []*releasev1.Hook, began time.Time) []*releasev1.Hook {
	found := []*releasev1.Hook{}
	for _, hook := range hooks {
		if slices.Contains(hook.Events, releasev1.HookTest) && !hook.LastRun.StartedAt.Before(began) {
			found = append(found, hook)
		}
	}
	slices.SortStableFunc(found, func(a, b *releasev1.Hook) int { return a.LastRun.StartedAt.Compare(b.LastRun.StartedAt) })
	return found
}

// podsOf returns the pods of the tests, with the ends of their logs; what cannot be read is left out.
func (o *operation) podsOf(tests []*releasev1.Hook, within time.Duration) []testedPod {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	found, logs := []testedPod{}, 0
	for _, hook := range tests {
		built, err := o.objects.Client.Build(bytes.NewReader([]byte(hook.Manifest)), false)
		if err != nil {
			continue
		}
		for _, pod := range o.podsOfHook(ctx, built) {
			kept := testedPod{Owner: hook.Kind + "/" + hook.Name, Logs: map[string]string{}}
			for _, container := range append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...) {
				if logs >= mostTestLogs {
					break
				}
				logs++
				if text, err := o.endOfLog(ctx, &pod, container.Name); err == nil {
					kept.Logs[container.Name] = text
				}
			}
			pod.ManagedFields, pod.Annotations, pod.Spec = nil, nil, podsv1.PodSpec{}
			kept.Pod = &pod
			found = append(found, kept)
		}
	}
	return found
}

func (o *operation) podsOfHook(ctx context.Context, built kube.ResourceList) []podsv1.Pod {
	var found []podsv1.Pod
	for _, info := range built {
		pods := o.cluster.clients.CoreV1().Pods(info.Namespace)
		switch info.Mapping.GroupVersionKind.Kind {
		case "Pod":
			if pod, err := pods.Get(ctx, info.Name, metav1.GetOptions{}); err == nil {
				found = append(found, *pod)
			}
		case "Job":
			selector := metav1.ListOptions{LabelSelector: "job-name=" + info.Name, Limit: mostTestLogs}
			if list, err := pods.List(ctx, selector); err == nil {
				found = append(found, list.Items...)
			}
		}
	}
	return found
}

func (o *operation) endOfLog(ctx context.Context, pod *podsv1.Pod, container string) (string, error) {
	lines := int64(mostLogLines)
	options := &podsv1.PodLogOptions{Container: container, TailLines: &lines}
	reader, err := o.cluster.clients.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer reader.Close() //nolint:errcheck // it was read
	text, err := lastBytes(reader, mostLogSent)
	if err != nil && len(text) == 0 {
		return "", err
	}
	return string(text), nil
}

// lastBytes reads to the end, or to an error, and returns so many of the last bytes at most.
func lastBytes(reader io.Reader, most int) ([]byte, error) {
	kept := make([]byte, 0, 2*most)
	for {
		if len(kept) == cap(kept) {
			kept = kept[:copy(kept, kept[len(kept)-most:])]
		}
		count, err := reader.Read(kept[len(kept):cap(kept)])
		kept = kept[:len(kept)+count]
		if errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			continue
		}
		return kept[max(0, len(kept)-most):], err
	}
}

// guard makes sure that a revision is stored again only as long as nobody else has changed it: tests last, and Helm
// would write over what others have made of it meanwhile.
func (r *records) guard() {
	guarded := &unchangedSecrets{SecretInterface: r.secrets, versions: map[string]string{}}
	r.secrets, r.Driver = guarded, driver.NewSecrets(guarded)
}

// unchangedSecrets updates a Secret only if it is as it was read or written last.
type unchangedSecrets struct {
	corev1.SecretInterface
	lock     sync.Mutex
	versions map[string]string
}

func (u *unchangedSecrets) remember(secret *podsv1.Secret) {
	u.lock.Lock()
	defer u.lock.Unlock()
	u.versions[secret.Name] = secret.ResourceVersion
}

func (u *unchangedSecrets) known(name string) string {
	u.lock.Lock()
	defer u.lock.Unlock()
	return u.versions[name]
}

// Get remembers what was read.
func (u *unchangedSecrets) Get(ctx context.Context, name string, options metav1.GetOptions) (*podsv1.Secret, error) {
	found, err := u.SecretInterface.Get(ctx, name, options)
	if err == nil {
		u.remember(found)
	}
	return found, err
}

// List does the same.
func (u *unchangedSecrets) List(ctx context.Context, options metav1.ListOptions) (*podsv1.SecretList, error) {
	list, err := u.SecretInterface.List(ctx, options)
	if err == nil {
		for index := range list.Items {
			u.remember(&list.Items[index])
		}
	}
	return list, err
}

// Update refuses what was changed since.
func (u *unchangedSecrets) Update(
	ctx context.Context, secret *podsv1.Secret, options metav1.UpdateOptions,
) (*podsv1.Secret, error) {
	secret.ResourceVersion = u.known(secret.Name)
	made, err := u.SecretInterface.Update(ctx, secret, options)
	if apierrors.IsConflict(err) {
		return nil, refusal{kind: releaseError, message: fmt.Sprintf(
			"%s was changed by another program while the tests ran; run them again", secret.Name)}
	}
	if err == nil {
		u.remember(made)
	}
	return made, err
}
