package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

func mappingOf(kind string) *meta.RESTMapping {
	return &meta.RESTMapping{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: kind}, Scope: meta.RESTScopeNamespace}
}

func infoOf(kind, name string) *resource.Info {
	object := &unstructured.Unstructured{}
	object.SetKind(kind)
	object.SetName(name)
	return &resource.Info{Name: name, Mapping: mappingOf(kind), Object: object}
}

func TestWhoseAnObjectIs(t *testing.T) {
	ours := newObjects(nil, newProgress(nil, false), 1, "web", "shop")
	for name, one := range map[string]struct{ release, namespace, manager, text string }{
		"ours":                {"web", "shop", managedByHelm, ""},
		"another release's":   {"db", "shop", managedByHelm, `because it belongs to release "db" in namespace "shop"`},
		"another namespace's": {"web", "test", managedByHelm, `because it belongs to release "web" in namespace "test"`},
		"nobody's":            {"", "", "", "because it no longer bears the marks of this release"},
		"without a release":   {"", "", managedByHelm, "because it no longer bears the marks of this release"},
		"not Helm's":          {"web", "shop", "somebody", "because it no longer bears the marks of this release"},
	} {
		object := &unstructured.Unstructured{}
		object.SetAnnotations(map[string]string{releaseAnnotation: one.release, namespaceAnnotation: one.namespace})
		object.SetLabels(map[string]string{managedByLabel: one.manager})
		if found := ours.otherOwner(object); found != one.text {
			t.Errorf("%s: %q", name, found)
		}
	}
}

func TestAKindBeginsWhenTheOneBeforeHasEnded(t *testing.T) {
	ours := newObjects(nil, newProgress(nil, false), 2, "web", "shop")
	list := kube.ResourceList{
		infoOf("ConfigMap", "a"), infoOf("ConfigMap", "b"), infoOf("ConfigMap", "c"), infoOf("Pod", "d"), infoOf("Pod", "e"),
	}
	var lock sync.Mutex
	running, most := 0, 0
	var order []string
	failures := ours.each(list, func(info *resource.Info) error {
		lock.Lock()
		running++
		most = max(most, running)
		lock.Unlock()
		if info.Name == "a" {
			time.Sleep(20 * time.Millisecond) // the last of its kind to end
		}
		lock.Lock()
		defer lock.Unlock()
		running--
		order = append(order, info.Name)
		if strings.Contains("ae", info.Name) {
			return errors.New(info.Name)
		}
		return nil
	})
	if slices.Index(order, "a") > slices.Index(order, "d") || slices.Index(order, "a") > slices.Index(order, "e") {
		t.Error("pods began before", order)
	}
	if most > 2 {
		t.Error("at a time", most)
	}
	if text := fmt.Sprint(joined(failures, "; ")); text != "a; e" {
		t.Error(text)
	}
}

func TestSeveralErrorsAreOneLineAndEachIsFound(t *testing.T) {
	if joined(nil, ", ") != nil {
		t.Error("an error of none")
	}
	first := refusal{kind: valuesError, message: "one"}
	both := joined([]error{errors.New("other"), first}, ", ")
	if both.Error() != "other, one" || classify(both) != valuesError {
		t.Error(both, classify(both))
	}
}

func TestWhatHelmBuiltAsAHookIsToldAsOne(t *testing.T) {
	ours := newObjects(nil, newProgress(nil, false), 1, "web", "shop")
	hook, other := infoOf("Job", "a"), infoOf("Job", "b")
	ours.hooks = map[*resource.Info]bool{hook: true}
	for _, one := range []struct {
		list   kube.ResourceList
		wanted string
	}{{nil, phaseApply}, {kube.ResourceList{other}, phaseApply}, {kube.ResourceList{hook}, phaseHook}} {
		if found := ours.phaseOf(one.list, phaseApply); found != one.wanted {
			t.Error(found, one.wanted)
		}
	}
}
