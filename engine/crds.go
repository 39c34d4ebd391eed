package main

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/kube"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

// What is done with what lies in a chart's crds/.
const (
	crdsSkip    = "skip"
	crdsReplace = "replace"

	crdTimeout  = 60 * time.Second // Helm's
	crdInterval = 50 * time.Millisecond
	crdKind     = "CustomResourceDefinition"
)

// applyCRDs makes sure of the chart's CRDs before the action: applied as the policy says, established, and served.
//
// Helm's own step does not wait until their kinds are served, and loses objects of them.
func (o *operation) applyCRDs(charts *charts, archive []byte, given values, policy string, timeout time.Duration) error {
	if policy == crdsSkip {
		return nil
	}
	loaded, err := charts.load(archive, true, false) // one of its own: what is asked of it here changes it
	if err != nil || len(loaded.CRDObjects()) == 0 {
		return err
	}
	if err := chartutil.ProcessDependencies(loaded, copied(loaded, given)); err != nil {
		return nil // the action says the same
	}
	until := time.Now().Add(min(timeout, crdTimeout))
	var all kube.ResourceList
	for _, crd := range loaded.CRDObjects() {
		applied, err := o.applyCRD(crd, policy)
		if err != nil {
			return fmt.Errorf("failed to install CRD %s: %w", crd.Name, err)
		}
		all = append(all, applied...)
	}
	if err := o.objects.awaitCRDs(all, until); err != nil {
		return err
	}
	return o.reach()
}

// copied returns the values for a chart that is thrown away.
func copied(loaded *chart.Chart, given values) map[string]any {
	merged, err := util.CoalesceValues(loaded, given)
	if err != nil {
		return given
	}
	return merged
}

func (o *operation) applyCRD(crd chart.CRD, policy string) (kube.ResourceList, error) {
	list, err := o.objects.Build(bytes.NewReader(crd.File.Data), false)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("the file holds no object")
	}
	replace := policy == crdsReplace
	missing := kube.ResourceList{}
	for _, info := range list {
		live, err := find(info)
		if err != nil {
			return nil, err
		}
		if live == nil || replace {
			missing.Append(info)
		}
	}
	if len(missing) > 0 {
		_, err = o.objects.Create(missing, kube.ClientCreateOptionServerSideApply(true, replace))
	}
	return list, err
}

// defines remembers what the operation made that defines kinds: what needs them waits until they are served.
func (o *objects) defines(list kube.ResourceList) {
	for _, info := range list {
		if info.Mapping != nil && info.Mapping.GroupVersionKind.Kind == crdKind {
			o.defined.Append(info)
		}
	}
}

// buildNew returns the objects of a manifest whose kinds the operation itself may have defined a moment ago, or is
// going to define: those are left out in a dry run.
func (o *objects) buildNew(text []byte) (kube.ResourceList, error) {
	built, err := o.Client.Build(bytes.NewReader(text), false)
	if err == nil {
		return built, nil
	}
	if len(o.defined) > 0 {
		if err := o.awaitCRDs(o.defined, time.Now().Add(crdTimeout)); err != nil {
			return nil, err
		}
		o.defined = nil
		return o.Client.Build(bytes.NewReader(text), false)
	}
	if len(o.brought) == 0 {
		return built, err
	}
	var kept bytes.Buffer
	for _, document := range documentsOf(string(text)) {
		if found, broken := identify(document.text); broken == nil && o.brought[[2]string{found.APIVersion, found.Kind}] {
			continue
		}
		kept.WriteString("\n---\n" + document.text)
	}
	return o.Client.Build(&kept, false)
}

// awaitCRDs waits until every CRD is established and its kinds are served.
func (o *objects) awaitCRDs(list kube.ResourceList, until time.Time) error {
	for _, info := range list {
		if info.Mapping.GroupVersionKind.Kind != crdKind {
			continue
		}
		o.progress.send(about(phaseWait, info))
		for {
			problem, err := o.crdProblem(info)
			if err != nil {
				return err
			}
			if problem == "" {
				break
			}
			if time.Now().After(until) {
				return refusal{
					kind:    timeoutError,
					message: fmt.Sprintf("the CRD %s is not ready in time: %s", info.Name, problem),
				}
			}
			time.Sleep(crdInterval)
		}
	}
	return nil
}

// crdProblem says what is still missing before objects of a CRD's kinds can be made.
func (o *objects) crdProblem(info *resource.Info) (string, error) {
	live, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
	if apierrors.IsNotFound(err) {
		return "it is not there", nil
	}
	if err != nil {
		return "", err
	}
	plain, is := live.(*unstructured.Unstructured)
	if !is {
		return "", fmt.Errorf("a CRD of another type: %T", live)
	}
	var crd apiextensions.CustomResourceDefinition
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(plain.Object, &crd); err != nil {
		return "", err
	}
	established := false
	for _, condition := range crd.Status.Conditions {
		if condition.Type == apiextensions.NamesAccepted && condition.Status == apiextensions.ConditionFalse {
			return "", fmt.Errorf("the CRD %s is not accepted: %s", info.Name, condition.Message)
		}
		if condition.Type == apiextensions.Established {
			established = condition.Status == apiextensions.ConditionTrue
		}
	}
	if !established {
		return "it is not established", nil
	}
	return o.unserved(&crd)
}

func (o *objects) unserved(crd *apiextensions.CustomResourceDefinition) (string, error) {
	for _, version := range crd.Spec.Versions {
		if !version.Served {
			continue
		}
		kind := schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}
		_, err := o.cluster.mapper.RESTMapping(kind, version.Name)
		if meta.IsNoMatchError(err) {
			o.cluster.discovery.Invalidate()
			_, err = o.cluster.mapper.RESTMapping(kind, version.Name)
		}
		if meta.IsNoMatchError(err) {
			return fmt.Sprintf("%s/%s %s is not served", crd.Spec.Group, version.Name, crd.Spec.Names.Kind), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}
