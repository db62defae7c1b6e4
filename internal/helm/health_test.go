package helm

import (
	"errors"
	"testing"
)

func TestTheLastHealthyRevisionIsRemembered(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	releases := server.releases(t)
	none := func() {
		t.Helper()
		if _, err := releases.LastHealthy(t.Context(), "mesh", "control"); !errors.Is(err, ErrReleaseNotFound) {
			t.Errorf("no revision was healthy: %v", err)
		}
	}
	none()
	installed := deploy(t, server, nil)
	none()
	before := server.count("")
	if err := releases.MarkHealthy(t.Context(), installed); err != nil || server.count("")-before != 1 {
		t.Fatalf("%d requests, %v", server.count("")-before, err)
	}
	expect := func(step string, healthy bool, last int) {
		t.Helper()
		now, err := releases.Get(t.Context(), "mesh", "control")
		if err != nil || now.Healthy != healthy || now.Labels["example.com/owner"] != "me" {
			t.Errorf("%s: %+v, %v", step, now, err)
		}
		before := server.count("")
		found, err := releases.LastHealthy(t.Context(), "mesh", "control")
		if err != nil || found.Revision != last || !found.Healthy || server.count("")-before != 1 {
			t.Errorf("%s: last healthy is %+v, %v", step, found, err)
		}
	}
	expect("installed", true, 1)
	// Helm writes the record again when it supersedes it, and hands its labels down.
	upgraded := deploy(t, server, map[string]any{"data": "two"})
	expect("upgraded", false, 1)
	if err := releases.MarkHealthy(t.Context(), upgraded); err != nil {
		t.Fatal(err)
	}
	expect("upgrade healthy", true, 2)
	if _, err := rollBack(t, server, 1); err != nil {
		t.Fatal(err)
	}
	expect("rolled back", false, 2)
	for range history + 1 {
		deploy(t, server, nil)
	}
	expect("history pruned", false, 2)
	if server.get(secrets+"sh.helm.release.v1.control.v1") != nil {
		t.Error("the older healthy revision was kept as well")
	}
	if err := releases.MarkHealthy(t.Context(), installed); err == nil {
		t.Error("a revision that is not on record any more was marked")
	}
}
