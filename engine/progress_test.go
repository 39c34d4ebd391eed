package main

import (
	"encoding/json"
	"io"
	"slices"
	"testing"

	"k8s.io/cli-runtime/pkg/resource"
)

// told returns the messages of the events that arrive until the channel is closed.
func told(t *testing.T, ours *channel, theirs io.Reader) []string {
	t.Helper()
	must(t, ours.connection.Close())
	text, err := io.ReadAll(theirs)
	must(t, err)
	var messages []string
	for len(text) > 0 {
		size := int(text[0])<<24 | int(text[1])<<16 | int(text[2])<<8 | int(text[3])
		var one struct{ Event progressEvent }
		must(t, json.Unmarshal(text[8:8+size], &one))
		messages, text = append(messages, one.Event.Message), text[8+size:]
	}
	return messages
}

func TestEventsAreKeptUntilAnOperationTakesAWhile(t *testing.T) {
	for name, one := range map[string]struct {
		wanted, begins bool
		told           []string
	}{
		"not wanted":       {false, false, nil},
		"over in a moment": {true, false, []string{"Job left: it is somebody's"}},
		"takes a while":    {true, true, []string{"one", "Job left: it is somebody's", "two"}},
	} {
		ours, theirs := channels(t)
		events := newProgress(ours, one.wanted)
		if one.wanted {
			events.timer.Stop() // what follows decides when it begins
		}
		events.step(phaseApply, "one")
		info := &resource.Info{Name: "left", Mapping: mappingOf("Job")}
		events.left(info, "it is somebody's")
		if one.begins {
			events.begin()
		}
		events.step(phaseApply, "two")
		events.close()
		events.step(phaseApply, "after the outcome")
		events.begin()
		if found := told(t, ours, theirs); !slices.Equal(found, one.told) {
			t.Errorf("%s: %q, not %q", name, found, one.told)
		}
	}
}

func TestAnEventIsAboutAnObjectAndItsPlaceInTheCount(t *testing.T) {
	info := &resource.Info{Name: "a", Namespace: "shop", Mapping: mappingOf("Pod")}
	found := about(phaseHook, info).counted(0, 3)
	if found.ObjectKind != "Pod" || found.ObjectName != "a" || found.ObjectNamespace != "shop" || *found.Done != 0 || *found.Total != 3 {
		t.Fatalf("%+v", found)
	}
	if found := about(phaseWait, &resource.Info{Name: "a"}); found.ObjectKind != "" || found.Done != nil {
		t.Fatalf("%+v", found)
	}
}
