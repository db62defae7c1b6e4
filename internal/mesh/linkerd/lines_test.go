package linkerd

import (
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"stable-2.14.10": "2.14", "edge-24.2.4": "2.15", "edge-24.2.5": "2.16", "2024.11.8": "2.17", "2024.11.9": "2.18", "2025.4.4": "2.18",
		"2025.9.4": "2.19", "2025.10.7": "2.19", "2026.6.3": "2.20", "2026.8.3": "after 2.20", "enterprise-2.18.1": "2.18", "enterprise-2.22.0": "2.22",
	} {
		v, err := ParseVersion(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := lineOf(v); got.String() != want || got.gatewayAPI[1] == "" {
			t.Errorf("%s is of line %s, want %s", text, got, want)
		}
	}
}

func TestUpgradesPassOverNoVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to, through string }{
		{"edge-24.11.8", "edge-25.4.4", ""},
		{"edge-25.4.4", "edge-25.4.4", ""},
		{"edge-25.4.4", "edge-24.11.8", ""},
		{"stable-2.14.10", "edge-24.2.4", ""},
		{"enterprise-2.18.1", "edge-25.10.7", ""},
		{"edge-26.6.3", "edge-26.8.3", ""},
		{"edge-24.11.8", "edge-25.10.7", `2.18 (version "2025.4.4")`},
		{"stable-2.14.10", "edge-26.8.3", "2.15 (edge-24.2.4; its charts"},
		{"edge-25.10.7", "edge-26.8.3", `2.20 (version "2026.6.3")`},
		{"edge-26.8.3", "edge-25.10.7", `2.20 (version "2026.6.3")`},
		{"enterprise-2.22.0", "edge-26.6.3", "2.21"},
	} {
		from, err := ParseVersion(c.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := ParseVersion(c.to)
		if err != nil {
			t.Fatal(err)
		}
		err = checkUpgrade(from, to)
		if (err == nil) != (c.through == "") || err != nil && !strings.Contains(err.Error(), "go through "+c.through) {
			t.Errorf("%s to %s: %v, want a way through %q", c.from, c.to, err, c.through)
		}
	}
}

func TestBundlesOutsideOfWhatLinkerdWorksWith(t *testing.T) {
	t.Parallel()
	l := lineOf(Version{Edge: true, numbers: [3]int{25, 4, 4}})
	for bundle, want := range map[string]string{
		"v1.1.1": "", "v1.2.0": "", "1.2.1": "", "v1.1.0": "older", "v1.3.0": "newer", "v1.10.0": "newer", "main": "cannot be read",
	} {
		if got := outside(bundle, l); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", bundle, got, want)
		}
	}
}
