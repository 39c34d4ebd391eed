package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release"
	releasecommon "helm.sh/helm/v4/pkg/release/common"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	dryRunClient = "client"
	waitReady    = "ready"
	waitJobs     = "jobs"
)

// engine answers requests, one at a time.
type engine struct {
	charts   *charts
	clusters *clusters
	parallel int
}

func newEngine(opts options, connector *connector) *engine {
	// ours counts archives in archives together; Helm's must not be the smaller one
	archive.MaxDecompressedChartSize = max(archive.MaxDecompressedChartSize, opts.ChartUnpackedBytes+1)
	return &engine{
		charts:   &charts{limits: opts},
		clusters: &clusters{limits: opts, connector: connector},
		parallel: opts.ParallelObjects,
	}
}

// run returns the outcome of one request.
func (e *engine) run(request any, during call, progress *progress) (any, error) {
	switch typed := request.(type) {
	case *installRequest:
		return e.install(typed, during, progress)
	case *upgradeRequest:
		return e.upgrade(typed, during, progress)
	case *rollbackRequest:
		return nil, e.rollback(typed, during, progress)
	case *uninstallRequest:
		return e.uninstall(typed, during, progress)
	case *runTestsRequest:
		return e.test(typed, during, progress)
	case *renderNameRequest:
		return renderName(typed)
	case *renderRequest:
		return e.renderRelease(typed, during, progress)
	case *lintRequest:
		return e.lint(typed)
	case *inspectRequest:
		return e.inspect(typed)
	case *mergeValuesRequest:
		return mergeValues(typed)
	case *readIndexRequest:
		return readIndex(typed)
	case *orderVersionsRequest:
		return orderVersions(typed)
	case *readKeysRequest:
		return readKeys(typed)
	case *verifyProvenanceRequest:
		return verifyProvenance(typed)
	case *verifySignaturesRequest:
		return verifySignatures(typed)
	}
	return nil, fmt.Errorf("no action for %T", request)
}

// operation is one action on one release in its cluster.
type operation struct {
	cluster       *cluster
	objects       *objects
	records       *records
	configuration *action.Configuration
}

// begin prepares an action; the caller releases its cluster.
func (e *engine) begin(kubeconfig, namespace, name string, during call, progress *progress) (*operation, error) {
	of, err := e.clusters.open(kubeconfig, during)
	if err != nil {
		return nil, err
	}
	made := &operation{cluster: of, objects: newObjects(of, progress, e.parallel, name, namespace)}
	made.records = newRecords(of, made.objects, progress)
	configuration := action.NewConfiguration()
	configuration.RESTClientGetter = of
	configuration.KubeClient = made.objects
	configuration.Releases = made.records.storage()
	configuration.HookOutputFunc = func(_, _, _ string) io.Writer { return io.Discard }
	made.configuration = configuration
	return made, nil
}

// reach makes sure of the cluster, and of what it serves; at the same time it finds the release's revisions.
func (o *operation) reach() error {
	var looking sync.WaitGroup
	looking.Go(func() { o.records.lookAhead(o.objects.release) })
	err := o.cluster.reach(true)
	looking.Wait()
	if err != nil {
		return err
	}
	o.configuration.Capabilities = o.cluster.capabilities.Copy()
	return nil
}

func (e *engine) install(request *installRequest, during call, progress *progress) (*releaseOutcome, error) {
	loaded, err := e.charts.load(request.Chart, !request.ShowHooks, !request.SkipSchemaValidation)
	if err != nil {
		return nil, err
	}
	given, err := merge(request.Values, request.Layers)
	if err != nil {
		return nil, err
	}
	configuration := action.NewConfiguration()
	var running *operation
	if request.DryRun != dryRunClient {
		if running, err = e.begin(request.Kubeconfig, request.Namespace, request.ReleaseName, during, progress); err != nil {
			return nil, err
		}
		defer running.cluster.release()
		configuration = running.configuration
		if err := running.reach(); err != nil {
			return nil, fmt.Errorf("cluster reachability check failed: %w", err)
		}
		running.objects.looks, running.objects.replaces = !request.ShowHooks, request.ForceReplace
		running.records.before = func(made *releasev1.Release) error {
			if err := checkObjects(made.Manifest, made.Hooks); err != nil {
				return err
			}
			return running.createNamespace(request)
		}
	}
	helm := action.NewInstall(configuration)
	helm.Namespace, helm.ReleaseName = request.Namespace, request.ReleaseName
	helm.DryRunStrategy = action.DryRunStrategy(request.DryRun)
	helm.DisableHooks, helm.TakeOwnership = request.DisableHooks, request.ShowHooks || request.TakeOwnership
	helm.Replace, helm.SkipCRDs = request.Replace, request.DryRun == "none"
	helm.WaitStrategy, helm.Timeout = strategy(request.Wait), seconds(request.TimeoutSeconds)
	helm.WaitForJobs = request.Wait == waitJobs
	helm.ForceConflicts, helm.ForceReplace = request.ForceConflicts, request.ForceReplace
	helm.ServerSideApply = !request.ForceReplace // Helm knows the two apart only
	helm.Description, helm.Labels = request.Description, request.Labels
	helm.DisableOpenAPIValidation, helm.SkipSchemaValidation = true, request.SkipSchemaValidation
	if running != nil && request.DryRun != "none" && request.CRDs != crdsSkip {
		running.foresee(loaded)
	}
	if request.DryRun == "none" && running.isFree(request) {
		if err := running.applyCRDs(e.charts, request.Chart, given, request.CRDs, helm.Timeout); err != nil {
			return nil, err
		}
	}
	if running != nil {
		if err := request.Planned.follow(loaded, running.records); err != nil {
			return nil, err
		}
	}
	progress.step(phaseRender, "rendering")
	made, err := helm.Run(loaded, given)
	if err != nil {
		return nil, err
	}
	return outcomeOf(made, loaded, request.DryRun)
}

func (e *engine) upgrade(request *upgradeRequest, during call, progress *progress) (*releaseOutcome, error) {
	loaded, err := e.charts.load(request.Chart, !request.ShowHooks, !request.SkipSchemaValidation)
	if err != nil {
		return nil, err
	}
	given, err := merge(request.Values, request.Layers)
	if err != nil {
		return nil, err
	}
	running, err := e.begin(request.Kubeconfig, request.Namespace, request.ReleaseName, during, progress)
	if err != nil {
		return nil, err
	}
	defer running.cluster.release()
	if err := running.reach(); err != nil {
		return nil, err
	}
	running.objects.looks, running.objects.compares, running.objects.replaces = true, true, request.ForceReplace
	running.objects.removesNamespace = request.RemoveNamespace
	running.records.before = func(made *releasev1.Release) error {
		if err := request.refuseOther(made.Version); err != nil {
			return err
		}
		return checkObjects(made.Manifest, made.Hooks)
	}
	helm := action.NewUpgrade(running.configuration)
	helm.Namespace = request.Namespace
	helm.DryRunStrategy = action.DryRunStrategy(request.DryRun)
	helm.DisableHooks, helm.TakeOwnership = request.DisableHooks, request.ShowHooks || request.TakeOwnership
	helm.ResetValues, helm.ReuseValues = request.ResetValues, request.ReuseValues
	helm.ResetThenReuseValues = request.ResetThenReuseValues
	helm.WaitStrategy, helm.Timeout = strategy(request.Wait), seconds(request.TimeoutSeconds)
	helm.WaitForJobs = request.Wait == waitJobs
	helm.Description, helm.Labels = request.Description, request.Labels
	helm.MaxHistory = request.MaxHistory
	helm.ForceConflicts, helm.ForceReplace = request.ForceConflicts, request.ForceReplace
	helm.ServerSideApply = serverSide(request.ForceReplace)
	helm.DisableOpenAPIValidation, helm.SkipSchemaValidation = true, request.SkipSchemaValidation
	if request.DryRun != "none" && request.CRDs != crdsSkip {
		running.foresee(loaded)
	}
	if request.DryRun == "none" {
		if err := running.refuseMoved(request); err != nil {
			return nil, err
		}
		if err := running.applyCRDs(e.charts, request.Chart, given, request.CRDs, helm.Timeout); err != nil {
			return nil, err
		}
	}
	if err := request.Planned.follow(loaded, running.records); err != nil {
		return nil, err
	}
	progress.step(phaseRender, "rendering")
	made, err := helm.Run(request.ReleaseName, loaded, given)
	if err != nil {
		return nil, err
	}
	return outcomeOf(made, loaded, request.DryRun)
}

func (e *engine) rollback(request *rollbackRequest, during call, progress *progress) error {
	running, err := e.begin(request.Kubeconfig, request.Namespace, request.ReleaseName, during, progress)
	if err != nil {
		return err
	}
	defer running.cluster.release()
	if err := running.reach(); err != nil {
		return err
	}
	running.objects.removesNamespace = request.RemoveNamespace
	running.records.before = func(made *releasev1.Release) error {
		if made.Manifest == running.objects.past {
			running.objects.past = "" // what is to be made has to be served
		}
		return nil
	}
	if err := request.Planned.follow(nil, running.records); err != nil {
		return err
	}
	running.records.only = request.Revision
	running.objects.looksTwice, running.objects.replaces = true, request.ForceReplace
	helm := action.NewRollback(running.configuration)
	helm.Version = request.ToRevision
	helm.DryRunStrategy = action.DryRunStrategy(request.DryRun)
	helm.DisableHooks = request.DisableHooks
	helm.WaitStrategy, helm.Timeout = strategy(request.Wait), seconds(request.TimeoutSeconds)
	helm.WaitForJobs = request.Wait == waitJobs
	helm.MaxHistory = request.MaxHistory
	helm.ForceConflicts, helm.ForceReplace = request.ForceConflicts, request.ForceReplace
	helm.ServerSideApply = serverSide(request.ForceReplace)
	return helm.Run(request.ReleaseName)
}

func (e *engine) uninstall(request *uninstallRequest, during call, progress *progress) (string, error) {
	running, err := e.begin(request.Kubeconfig, request.Namespace, request.ReleaseName, during, progress)
	if err != nil {
		return "", err
	}
	defer running.cluster.release()
	if err := running.reach(); err != nil {
		return "", err
	}
	running.objects.allPast, running.objects.looks = true, true
	running.records.purges = !request.KeepHistory
	helm := action.NewUninstall(running.configuration)
	helm.DisableHooks = request.DisableHooks
	helm.WaitStrategy, helm.Timeout = strategy(request.Wait), seconds(request.TimeoutSeconds)
	helm.Description = request.Description
	helm.KeepHistory, helm.DeletionPropagation = request.KeepHistory, request.Cascade
	answer, err := helm.Run(request.ReleaseName)
	if err != nil {
		if cause := joined(running.objects.deletedErr, "; "); cause != nil {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return "", err
	}
	running.objects.tellKept()
	return answer.Info, nil
}

// refuseOther says that the next revision has another number than is wanted.
func (r *upgradeRequest) refuseOther(next int) error {
	if r.OnlyRevision == 0 || next == r.OnlyRevision {
		return nil
	}
	return refusal{kind: planMoved, message: fmt.Sprintf(
		"the release was not changed: its next revision is %d by now, not %d; look at it and send the request again",
		next, r.OnlyRevision,
	)}
}

// refuseMoved says the same of what is stored now, before anything is done; what cannot be read Helm says itself.
func (o *operation) refuseMoved(request *upgradeRequest) error {
	newest, err := o.configuration.Releases.Last(request.ReleaseName)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	if stored, is := newest.(*releasev1.Release); is {
		return request.refuseOther(stored.Version + 1)
	}
	return nil
}

// isFree tells whether Helm will accept the name; if not, nothing is to be done before it says so.
func (o *operation) isFree(request *installRequest) bool {
	if chartutil.ValidateReleaseName(request.ReleaseName) != nil {
		return false
	}
	newest, err := o.configuration.Releases.Last(request.ReleaseName)
	if err != nil {
		return true
	}
	stored, is := newest.(*releasev1.Release)
	return is && request.Replace &&
		(stored.Info.Status == releasecommon.StatusUninstalled || stored.Info.Status == releasecommon.StatusFailed)
}

// createNamespace makes the release's namespace where that was asked for, before the first record is stored in it.
func (o *operation) createNamespace(request *installRequest) error {
	if !request.CreateNamespace {
		return nil
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": request.Namespace, "labels": map[string]any{"name": request.Namespace}},
	})
	if err != nil {
		return err
	}
	o.objects.looks = false // nobody looks for it
	list, err := o.objects.Build(bytes.NewReader(text), false)
	if err != nil {
		return err
	}
	_, err = o.objects.Create(list, kube.ClientCreateOptionServerSideApply(true, false))
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func outcomeOf(made release.Releaser, loaded *chart.Chart, dryRun string) (*releaseOutcome, error) {
	stored, is := made.(*releasev1.Release)
	if !is {
		return nil, fmt.Errorf("a release of another kind: %T", made)
	}
	if dryRun != "none" {
		if err := checkObjects(stored.Manifest, stored.Hooks); err != nil {
			return nil, err
		}
	}
	// after the call: the chart holds now what conditions, aliases and import-values made of it
	merged, err := util.CoalesceValues(loaded, stored.Config)
	if err != nil {
		return nil, err
	}
	outcome := &releaseOutcome{
		Name: stored.Name, Namespace: stored.Namespace, Revision: stored.Version,
		Status: stored.Info.Status.String(), Description: stored.Info.Description,
		Manifest: stored.Manifest, Notes: stored.Info.Notes,
		FirstDeployed: stored.Info.FirstDeployed.Format(time.RFC3339Nano),
		LastDeployed:  stored.Info.LastDeployed.Format(time.RFC3339Nano),
		ChartName:     loaded.Metadata.Name, ChartVersion: loaded.Metadata.Version, AppVersion: loaded.Metadata.AppVersion,
		Labels: stored.Labels, Values: merged, Hooks: []*releasev1.Hook{},
	}
	if dryRun != "none" {
		outcome.Hooks = append(outcome.Hooks, stored.Hooks...)
	}
	return outcome, nil
}

func strategy(wait string) kube.WaitStrategy {
	if wait == waitReady || wait == waitJobs {
		return kube.StatusWatcherStrategy
	}
	return kube.HookOnlyStrategy
}

func seconds(given float64) time.Duration {
	return max(time.Second, time.Duration(given*float64(time.Second)))
}

// serverSide says how objects are applied: Helm replaces only what it does not apply on the server's side.
func serverSide(replaces bool) string {
	if replaces {
		return "false"
	}
	return "true"
}
