package linkerd

import (
	"maps"
	"testing"
)

// TestFromRegistry_names moves images whatever their names are made of: charts of
// forks have some without a registry.
func TestFromRegistry_names(t *testing.T) {
	t.Parallel()
	defaults := map[string]any{"plain": "controller", "hub": "linkerd/proxy", "whole": "cr.l5d.io/linkerd/debug"}
	want := map[string]any{"plain": "example.com/a/controller", "hub": "example.com/a/proxy", "whole": "example.com/a/debug"}
	for _, registry := range []string{"example.com/a", "example.com/a/"} {
		if got := fromRegistry(registry, defaults, "plain", "hub", "whole", "missing"); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", registry, got, want)
		}
	}
}
