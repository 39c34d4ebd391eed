package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const (
	shownRelease = `{"name": "web", "namespace": "n", "cluster_name": "c", "updated_at": "2026-11-30T05:00:00Z",
		"revision": 1, "description": "timed out", "status": "STATUS",
		"changed_by": {"user_name": "ann", "user_id": "u", "cause": "install", "operation_id": "10e3"}}`
	why = "\nCHANGED BY: ann, install, operation 10e3\n  why: pilothouse operation show 10e3\n"
)

func TestOfAFailedReleaseItIsToldWhereTheEvidenceIs(t *testing.T) {
	for status, told := range map[string]bool{"failed": true, "deployed": false} {
		var found release
		if err := json.Unmarshal([]byte(strings.Replace(shownRelease, "STATUS", status, 1)), &found); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := found.describe(&out); err != nil || strings.Contains(out.String(), why) != told {
			t.Fatalf("%s: %v\n%s", status, err, out.String())
		}
	}
}

func TestWhatHasNoRevisionIsThePythonProgramsToTell(t *testing.T) {
	for _, words := range []string{`"revision": 0`, `"revision": null`} {
		var found release
		text := strings.Replace(strings.Replace(shownRelease, "STATUS", "failed", 1), `"revision": 1`, words, 1)
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := found.describe(&out); !errors.Is(err, errUnusual) || out.Len() > 0 {
			t.Fatalf("status of %s: %v", words, err)
		}
	}
}

func TestACauseIsToldInWords(t *testing.T) {
	var found release
	text := strings.Replace(shownRelease, `"cause": "install"`, `"cause": "rollback_on_failure"`, 1)
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := found.describe(&out); err != nil || !strings.Contains(out.String(), "ann, rollback on failure, operation") {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func TestWhatWasNotVerifiedItselfIsThePythonProgramsToTell(t *testing.T) {
	for ofRevision, wanted := range map[string]error{"true": errUnusual, "false": nil} {
		var found release
		text := strings.Replace(shownRelease, `"revision": 1`, `"revision": 1, "verification": {"kind": "pgp",
			"signed_by": "ann", "fingerprint": "ab", "trusted": false, "of_revision": `+ofRevision+`}`, 1)
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			t.Fatal(err)
		}
		if err := found.describe(new(bytes.Buffer)); !errors.Is(err, wanted) {
			t.Fatalf("%s: %v", ofRevision, err)
		}
	}
}
