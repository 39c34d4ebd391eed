package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheOtherProgramIsBesideThisOne(t *testing.T) {
	program, err := besides(func() (string, error) { return filepath.Join("/opt", "bin", "pilothouse"), nil })
	if err != nil || program != filepath.Join("/opt", "bin", pythonProgram) {
		t.Fatalf("found %q, %v", program, err)
	}
}

func TestWithoutItsOwnPathNoneIsKnown(t *testing.T) {
	unknown := errors.New("no /proc")
	if _, err := besides(func() (string, error) { return "pilothouse", unknown }); !errors.Is(err, unknown) {
		t.Fatalf("found %v", err)
	}
}

func TestAListIsLimitedToTheContextsClusterUnlessAllAreAskedFor(t *testing.T) {
	cases := []struct{ words, cluster, note string }{
		{"list", "prod", ""},
		{"list -A", "prod", "limited to cluster prod,"},
		{"list -A -q", "prod", ""},
		{"list -A --all-clusters", "", ""},
		{"list --all-clusters", "", ""},
	}
	for _, one := range cases {
		typed, err := parse(strings.Fields(one.words))
		if err != nil {
			t.Fatalf("%s: %v", one.words, err)
		}
		cluster, err := typed.clusterToList(connection{cluster: "prod"})
		if err != nil || cluster != one.cluster {
			t.Errorf("%s: lists cluster %q, %v", one.words, cluster, err)
		}
		if note := typed.limit(cluster); !strings.HasPrefix(note, one.note) || (one.note == "") != (note == "") {
			t.Errorf("%s: notes %q", one.words, note)
		}
	}
}

func TestAClusterThatIsNamedIsNotNoted(t *testing.T) {
	typed, err := parse([]string{"list", "-A", "--cluster", "prod"})
	if err != nil || typed.limit("prod") != "" {
		t.Fatalf("notes %q, %v", typed.limit("prod"), err)
	}
}

func TestOneClusterAndAllOfThemIsHandedOver(t *testing.T) {
	typed, err := parse([]string{"list", "--all-clusters", "--cluster", "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := typed.clusterToList(connection{cluster: "prod"}); !errors.Is(err, errUnusual) {
		t.Fatalf("found %v", err)
	}
}
