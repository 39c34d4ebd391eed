package main

import (
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	releasecommon "helm.sh/helm/v4/pkg/release/common"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
)

// stored returns an operation whose release web has these revisions, in memory.
func stored(t *testing.T, statuses ...releasecommon.Status) *operation {
	t.Helper()
	memory := driver.NewMemory()
	memory.SetNamespace("shop")
	configuration := action.NewConfiguration()
	configuration.Releases = storage.Init(memory)
	for index, status := range statuses {
		must(t, configuration.Releases.Create(&releasev1.Release{
			Name: "web", Namespace: "shop", Version: index + 1, Info: &releasev1.Info{Status: status},
		}))
	}
	return &operation{configuration: configuration}
}

func TestANameIsFreeAsHelmTakesIt(t *testing.T) {
	const deployed, failed, gone = releasecommon.StatusDeployed, releasecommon.StatusFailed, releasecommon.StatusUninstalled
	for name, one := range map[string]struct {
		statuses []releasecommon.Status
		replace  bool
		free     bool
	}{
		"nothing there":          {nil, false, true},
		"deployed":               {[]releasecommon.Status{deployed}, false, false},
		"deployed, to replace":   {[]releasecommon.Status{deployed}, true, false},
		"failed":                 {[]releasecommon.Status{failed}, false, false},
		"failed, to replace":     {[]releasecommon.Status{failed}, true, true},
		"kept history":           {[]releasecommon.Status{gone}, false, false},
		"kept history, replace":  {[]releasecommon.Status{gone}, true, true},
		"the newest one decides": {[]releasecommon.Status{gone, deployed}, true, false},
	} {
		request := &installRequest{ReleaseName: "web", Replace: one.replace}
		if free := stored(t, one.statuses...).isFree(request); free != one.free {
			t.Errorf("%s: %v", name, free)
		}
	}
	if stored(t).isFree(&installRequest{ReleaseName: "Web_"}) {
		t.Error("a name that Helm refuses is free")
	}
}

func TestAnUpgradeOfAnotherRevisionThanThePlannedOneIsRefused(t *testing.T) {
	deployed := stored(t, releasecommon.StatusSuperseded, releasecommon.StatusDeployed)
	for only, moved := range map[int]bool{0: false, 3: false, 2: true, 4: true} {
		err := deployed.refuseMoved(&upgradeRequest{ReleaseName: "web", OnlyRevision: only})
		if !moved {
			must(t, err)
			continue
		}
		refusedWith(t, err, planMoved, "its next revision is 3 by now")
	}
	must(t, stored(t).refuseMoved(&upgradeRequest{ReleaseName: "web", OnlyRevision: 2})) // Helm says it
}

func TestOptionsBecomeHelms(t *testing.T) {
	for wait, wanted := range map[string]kube.WaitStrategy{
		waitReady: kube.StatusWatcherStrategy, waitJobs: kube.StatusWatcherStrategy, "none": kube.HookOnlyStrategy,
	} {
		if found := strategy(wait); found != wanted {
			t.Error(wait, found)
		}
	}
	for given, wanted := range map[float64]time.Duration{
		-1: time.Second, 0: time.Second, 0.5: time.Second, 1.5: 1500 * time.Millisecond, 300: 5 * time.Minute,
	} {
		if found := seconds(given); found != wanted {
			t.Error(given, found)
		}
	}
	if serverSide(true) != "false" || serverSide(false) != "true" {
		t.Error("how objects are applied")
	}
}
