package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/aggregator"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/collector"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/event"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/statusreaders"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/cli-utils/pkg/kstatus/watcher"
	"github.com/fluxcd/cli-utils/pkg/object"
	"helm.sh/helm/v4/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
)

// statusWorkers compute whether objects are ready, as many as the helm command has.
const statusWorkers = 8

// waiter waits as Helm does, and tells for what.
type waiter struct {
	objects  *objects
	strategy kube.WaitStrategy
	inner    kube.Waiter
}

// GetWaiter returns a waiter that makes Helm's own when it is needed.
func (o *objects) GetWaiter(strategy kube.WaitStrategy) (kube.Waiter, error) {
	return &waiter{objects: o, strategy: strategy}, nil
}

// GetWaiterWithOptions does the same: no option is used.
func (o *objects) GetWaiterWithOptions(strategy kube.WaitStrategy, _ ...kube.WaitOption) (kube.Waiter, error) {
	return o.GetWaiter(strategy)
}

func (w *waiter) helms() (kube.Waiter, error) {
	if w.inner == nil {
		made, err := w.objects.Client.GetWaiterWithOptions(w.strategy, kube.WithStatusComputeWorkers(statusWorkers))
		if err != nil {
			return nil, err
		}
		w.inner = made
	}
	return w.inner, nil
}

// WatchUntilReady waits for a hook.
func (w *waiter) WatchUntilReady(list kube.ResourceList, timeout time.Duration) error {
	inner, err := w.helms()
	if err != nil {
		return err
	}
	for _, info := range list {
		w.objects.progress.send(about(phaseHook, info))
	}
	return inner.WatchUntilReady(list, timeout)
}

// WaitForDelete waits until objects are gone.
func (w *waiter) WaitForDelete(list kube.ResourceList, timeout time.Duration) error {
	if w.strategy == kube.HookOnlyStrategy || len(list) == 0 {
		return nil
	}
	inner, err := w.helms()
	if err != nil {
		return err
	}
	total := len(list)
	w.objects.progress.send(progressEvent{Phase: phaseWait, Message: "waiting for objects to be gone", Total: &total})
	return inner.WaitForDelete(list, timeout)
}

// WaitWithJobs waits until objects are ready and Jobs complete.
func (w *waiter) WaitWithJobs(list kube.ResourceList, timeout time.Duration) error {
	inner, err := w.helms()
	if err != nil {
		return err
	}
	return inner.WaitWithJobs(list, timeout)
}

// Wait waits until objects are ready: the same as Helm's statusWaiter (pkg/kube/statuswait.go), which tells nobody how
// many are, and discovers the cluster anew.
func (w *waiter) Wait(list kube.ResourceList, timeout time.Duration) error {
	if w.strategy == kube.HookOnlyStrategy || len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	identifiers, err := waitedFor(list)
	if err != nil {
		return err
	}
	of := w.objects.cluster
	watching := watcher.NewDefaultStatusWatcher(of.dynamic, of.mapper)
	watching.ResyncPeriod = 3 * time.Minute
	watching.StatusComputeWorkers = statusWorkers
	watching.StatusReader = statusreaders.NewStatusReader(of.mapper)
	watched, stop := context.WithCancel(ctx)
	defer stop()
	events := watching.Watch(watched, identifiers, watcher.Options{RESTScopeStrategy: watcher.RESTScopeNamespace})
	statuses := collector.NewResourceStatusCollector(identifiers)
	<-statuses.ListenWithObserver(events, collector.ObserverFunc(
		func(seen *collector.ResourceStatusCollector, _ event.Event) { w.observe(seen, stop) }))
	if statuses.Error != nil {
		return statuses.Error
	}
	return notReady(ctx, identifiers, statuses)
}

func waitedFor(list kube.ResourceList) ([]object.ObjMetadata, error) {
	identifiers := make([]object.ObjMetadata, 0, len(list))
	for _, info := range list {
		if deployment, is := kube.AsVersioned(info).(*appsv1.Deployment); is && deployment.Spec.Paused {
			continue
		}
		one, err := object.RuntimeToObjMeta(info.Object)
		if err != nil {
			return nil, err
		}
		identifiers = append(identifiers, one)
	}
	return identifiers, nil
}

// observe tells how many objects are ready and which is not, and stops the wait when none is waited for any more.
func (w *waiter) observe(seen *collector.ResourceStatusCollector, stop context.CancelFunc) {
	var counted, waiting []*event.ResourceStatus
	for _, one := range seen.ResourceStatuses {
		// what has failed needs somebody's hand: it is not waited for
		if one == nil || one.Status == status.FailedStatus {
			continue
		}
		counted = append(counted, one)
		if one.Status != status.CurrentStatus {
			waiting = append(waiting, one)
		}
	}
	told := progressEvent{Phase: phaseWait, Message: "waiting for objects"}.counted(
		len(counted)-len(waiting), len(seen.ResourceStatuses))
	if len(waiting) > 0 {
		sort.Slice(waiting, func(i, j int) bool { return waiting[i].Identifier.Name < waiting[j].Identifier.Name })
		first := waiting[0].Identifier
		told.ObjectKind, told.ObjectName, told.ObjectNamespace = first.GroupKind.Kind, first.Name, first.Namespace
	}
	w.objects.progress.send(told)
	if aggregator.AggregateStatus(counted, status.CurrentStatus) == status.CurrentStatus {
		stop()
	}
}

func notReady(ctx context.Context, identifiers []object.ObjMetadata, seen *collector.ResourceStatusCollector) error {
	var failures []error
	for _, identifier := range identifiers {
		one := seen.ResourceStatuses[identifier]
		if one.Status == status.CurrentStatus {
			continue
		}
		failures = append(failures, fmt.Errorf("resource %s/%s/%s not ready. status: %s, message: %s",
			one.Identifier.GroupKind.Kind, one.Identifier.Namespace, one.Identifier.Name, one.Status, one.Message))
	}
	return errors.Join(append(failures, ctx.Err())...)
}
