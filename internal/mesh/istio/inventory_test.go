package istio

import (
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

func TestCheckUpgrade(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to, through string }{
		{"1.30.2", "1.31.0", ""},
		{"1.31.0", "1.30.2", ""},
		{"1.31.0", "1.31.4", ""},
		{"1.31-alpha.0123", "1.31.0", ""},
		{"1.29.1", "1.31.0", "through a version 1.30 first"},
		{"1.31.0", "1.28.0", "downgrades are supported over one minor version at a time: go through a version 1.30 first"},
		{"1.31.0", "2.0.0", "no change of the major version"},
		{"nightly", "1.31.0", ""},
	} {
		err := CheckUpgrade(c.from, c.to)
		if (err != nil) != (c.through != "") || err != nil && !strings.Contains(err.Error(), c.through) {
			t.Errorf("%s to %s: error %v, want one with %q", c.from, c.to, err, c.through)
		}
	}
}

func TestPlane(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]Plane{
		"istio-system":      {Namespace: "istio-system"},
		"istio-system/1-31": {Namespace: "istio-system", Revision: "1-31"},
	} {
		got, err := ParsePlane(id)
		if err != nil || got != want || got.String() != id {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	for _, id := range []string{"", "/1-31", "istio-system/", "istio-system/1.31", "istio-system/default", "a/b/c"} {
		if got, err := ParsePlane(id); err == nil {
			t.Errorf("%q is read as %+v", id, got)
		}
	}
}

// revisions is the inventory of a namespace with istiods of these versions.
func revisions(plane Plane, versions map[string]string) inventory {
	releases := map[string]*helm.Release{}
	for revision, version := range versions {
		values := map[string]any{}
		if revision != "" {
			values["revision"] = revision
		}
		releases[deploymentOf(revision)] = &helm.Release{Name: deploymentOf(revision), ChartName: IstiodChart, ChartVersion: version, Values: values}
	}
	return inventory{plane: plane, releases: map[string]map[string]*helm.Release{plane.Namespace: releases}}
}

func TestGoverns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		revision, version string
		others            map[string]string
		want              bool
	}{
		{"", "1.30.2", nil, true},
		{"", "1.30.2", map[string]string{"1-31": "1.31.0"}, false},
		{"1-31", "1.31.0", map[string]string{"": "1.30.2"}, true},
		// Of two alike, the default one, or the first by name.
		{"", "1.31.0", map[string]string{"1-31": "1.31.0"}, true},
		{"1-31", "1.31.0", map[string]string{"": "1.31.0"}, false},
		{"b", "1.31.0", map[string]string{"a": "1.31.0"}, false},
		{"a", "1.31.0", map[string]string{"b": "1.31.0"}, true},
	} {
		v := revisions(Plane{"mesh", c.revision}, c.others)
		if got := v.governs(c.version); got != c.want {
			t.Errorf("%q at %s beside %v governs: %t, want %t", c.revision, c.version, c.others, got, c.want)
		}
	}
}

func TestValidating(t *testing.T) {
	t.Parallel()
	base := func(revision any) *helm.Release {
		return &helm.Release{Name: baseRelease, ChartName: BaseChart, Values: map[string]any{"defaultRevision": revision}}
	}
	for name, c := range map[string]struct {
		revision string
		there    map[string]string
		base     *helm.Release
		want     string
	}{
		"first of all":                    {"", nil, nil, "default"},
		"first of all, with a name":       {"1-31", nil, nil, "1-31"},
		"stays with the one there":        {"1-31", map[string]string{"": "1.30.2"}, base(nil), "default"},
		"stays with the one named":        {"", map[string]string{"1-30": "1.30.2"}, base("1-30"), "1-30"},
		"goes from one that is no more":   {"1-31", map[string]string{"1-30": "1.30.2"}, base("1-29"), "1-31"},
		"nobody, as somebody has decided": {"1-31", map[string]string{"1-30": "1.30.2"}, base(""), ""},
	} {
		v := revisions(Plane{"mesh", c.revision}, c.there)
		if c.base != nil {
			v.releases["mesh"][baseRelease] = c.base
		}
		if got := v.validating(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
