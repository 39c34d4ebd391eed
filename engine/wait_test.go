package main

import (
	"context"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/collector"
	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/event"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/cli-utils/pkg/object"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

func deploymentOf(name string, paused bool) *resource.Info {
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": name, "namespace": "shop"}, "spec": map[string]any{"paused": paused},
	}}
	mapping := mappingOf("Deployment")
	mapping.GroupVersionKind = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	return &resource.Info{Name: name, Namespace: "shop", Mapping: mapping, Object: object}
}

func TestAPausedDeploymentIsNotWaitedFor(t *testing.T) {
	found, err := waitedFor(kube.ResourceList{deploymentOf("a", true), deploymentOf("b", false)})
	must(t, err)
	if len(found) != 1 || found[0].Name != "b" || found[0].GroupKind.Kind != "Deployment" {
		t.Fatal(found)
	}
}

// seen returns what was observed of Deployments a, b, …, in this order; unknown where nothing was.
func seen(statuses ...status.Status) (*collector.ResourceStatusCollector, []object.ObjMetadata) {
	var identifiers []object.ObjMetadata
	for index := range statuses {
		identifiers = append(identifiers, object.ObjMetadata{
			Name: string(rune('a' + index)), Namespace: "shop", GroupKind: schema.GroupKind{Group: "apps", Kind: "Deployment"},
		})
	}
	made := collector.NewResourceStatusCollector(identifiers)
	for index, one := range statuses {
		made.ResourceStatuses[identifiers[index]] = &event.ResourceStatus{
			Identifier: identifiers[index], Status: one, Message: "said",
		}
	}
	return made, identifiers
}

func TestAWaitEndsWhenAllIsReadyOrNothingWillBecomeSo(t *testing.T) {
	for name, one := range map[string]struct {
		statuses    []status.Status
		stops       bool
		ready, of   int
		waitingName string
	}{
		"all ready":     {[]status.Status{status.CurrentStatus, status.CurrentStatus}, true, 2, 2, ""},
		"one not yet":   {[]status.Status{status.CurrentStatus, status.InProgressStatus}, false, 1, 2, "b"},
		"nothing known": {[]status.Status{status.UnknownStatus}, false, 0, 1, "a"},
		"one failed":    {[]status.Status{status.CurrentStatus, status.FailedStatus}, true, 1, 2, ""},
		"failed and not yet": {
			[]status.Status{status.InProgressStatus, status.FailedStatus, status.TerminatingStatus}, false, 0, 3, "a",
		},
	} {
		ours, _ := channels(t)
		events := newProgress(ours, true)
		events.timer.Stop()
		waiting := &waiter{objects: newObjects(nil, events, 1, "web", "shop")}
		found, _ := seen(one.statuses...)
		stopped := false
		waiting.observe(found, func() { stopped = true })
		if len(events.kept) != 1 {
			t.Fatal(events.kept)
		}
		event := events.kept[0]
		if stopped != one.stops || *event.Done != one.ready || *event.Total != one.of || event.ObjectName != one.waitingName {
			t.Errorf("%s: %v %d of %d, waits for %q", name, stopped, *event.Done, *event.Total, event.ObjectName)
		}
	}
}

func TestWhatIsNotReadyIsNamedWithItsStatus(t *testing.T) {
	found, identifiers := seen(status.CurrentStatus, status.FailedStatus)
	err := notReady(context.Background(), identifiers, found)
	if err == nil || err.Error() != "resource Deployment/shop/b not ready. status: Failed, message: said" {
		t.Fatal(err)
	}
	late, cancel := context.WithCancel(context.Background())
	cancel()
	if err := notReady(late, identifiers, found); !strings.HasSuffix(err.Error(), "\ncontext canceled") {
		t.Fatal(err)
	}
	ready, identifiers := seen(status.CurrentStatus)
	must(t, notReady(context.Background(), identifiers, ready))
}

func TestWhoWaitsForHooksOnlyWaitsForNothingElse(t *testing.T) {
	waiting := &waiter{objects: newObjects(nil, newProgress(nil, false), 1, "web", "shop"), strategy: kube.HookOnlyStrategy}
	must(t, waiting.Wait(kube.ResourceList{deploymentOf("a", false)}, 0))
	must(t, waiting.WaitForDelete(kube.ResourceList{deploymentOf("a", false)}, 0))
}
