package linkerd_test

import (
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"edge-26.8.3":       "edge-26.8.3",
		"2026.8.3":          "edge-26.8.3",
		"2024.11.8":         "edge-24.11.8",
		"stable-2.14.10":    "2.14.10",
		"enterprise-2.18.1": "2.18.1",
		"2.18.0":            "2.18.0",
	} {
		version, err := linkerd.ParseVersion(text)
		if err != nil || version.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, version, err, want)
		}
	}
	for _, text := range []string{
		"", "edge-", "edge-26.8", "edge-XX.X.X", "edge-2026.8.3", "linkerdVersionValue", "dev-undefined", "1.16.11", "1.18.10-edge",
		"stable-26.8.3", "0.0.0-undefined", "v2.14.10", "3.0.0", "edge-26.8.3 ", "edge-26.8.99999",
	} {
		if version, err := linkerd.ParseVersion(text); err == nil {
			t.Errorf("%q was taken for %s", text, version)
		}
	}
}

func TestVersionHas(t *testing.T) {
	t.Parallel()
	feature := linkerd.Since{Edge: [3]int{25, 3, 2}, Numbered: [3]int{2, 18, 0}}
	for text, want := range map[string]bool{
		"edge-25.3.1": false, "edge-25.3.2": true, "edge-25.3.10": true, "edge-25.10.1": true, "edge-24.12.9": false, "edge-26.1.1": true,
		"2025.3.1": false, "2025.3.2": true,
		"stable-2.14.10": false, "enterprise-2.17.9": false, "enterprise-2.18.0": true, "2.20.0": true,
	} {
		version, err := linkerd.ParseVersion(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := version.Has(feature); got != want {
			t.Errorf("%s has it: %t", text, got)
		}
	}
}
