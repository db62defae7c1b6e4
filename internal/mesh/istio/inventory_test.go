package istio

import (
	"errors"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
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

func TestCheckNeighbours(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		specification Specification
		refused       bool
	}{
		"one apart":                   {Specification{Version: "1.30.2", CNI: true}, false},
		"two apart":                   {Specification{Version: "1.31.0"}, false},
		"three apart":                 {Specification{Version: "1.32.0"}, true},
		"two apart with shared nodes": {Specification{Version: "1.31.0", Profile: ProfileAmbient}, true},
	} {
		v := revisions(Plane{"mesh", "next"}, map[string]string{"": "1.29.4"})
		if err := v.checkNeighbours(c.specification); (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGateways_others holds what may be done to gateways that others have made.
func TestGateways_others(t *testing.T) {
	t.Parallel()
	ours := map[string]string{"aksmesh.io/managed-by": "aksmesh"}
	gateway := component{namespace: "mesh", release: "edge", chart: GatewayChart}
	for name, c := range map[string]struct {
		record  *helm.Release
		istiod  map[string]string // labels of the plane's own; nil for none of it
		former  []component
		refused string
	}{
		"ours":                     {&helm.Release{ChartName: GatewayChart, Labels: ours}, ours, nil, ""},
		"somebody's":               {&helm.Release{ChartName: GatewayChart}, ours, []component{{chart: IstiodChart}}, "not made by this provider"},
		"somebody's, imported":     {&helm.Release{ChartName: GatewayChart}, map[string]string{}, []component{{chart: IstiodChart}}, ""},
		"somebody's, had before":   {&helm.Release{ChartName: GatewayChart}, ours, []component{gateway}, ""},
		"another chart":            {&helm.Release{ChartName: "nginx", Labels: ours}, ours, []component{gateway}, "of chart nginx"},
		"another revision's":       {&helm.Release{ChartName: GatewayChart, Labels: ours, Values: map[string]any{"revision": "1-31"}}, ours, []component{{chart: IstiodChart}}, ""},
		"another revision's since": {&helm.Release{ChartName: GatewayChart, Labels: ours, Values: map[string]any{"revision": "1-31"}}, ours, []component{gateway}, "gateway of revision 1-31 by now"},
	} {
		c.record.Namespace, c.record.Name = "mesh", "edge"
		v := revisions(Plane{"mesh", ""}, map[string]string{"": "1.30.2"})
		v.releases["mesh"]["edge"], v.releases["mesh"]["istiod"].Labels = c.record, c.istiod
		err := v.checkRecord(gateway, c.record, c.former)
		if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", name, err, c.refused)
		}
	}
}

// TestExisting lets a canary be added beside an Istio of somebody's, with which it
// shares releases.
func TestExisting(t *testing.T) {
	t.Parallel()
	plane := Plane{"mesh", "1-31"}
	base := &helm.Release{Namespace: "mesh", Name: baseRelease, ChartName: BaseChart}
	wanted := compose(Specification{Plane: plane, Profile: ProfileMinimal}, defaultRevision)
	beside := revisions(plane, map[string]string{"": "1.30.2"})
	beside.releases["mesh"][baseRelease] = base
	if ours, err := beside.existing(wanted); ours || err != nil {
		t.Errorf("beside another: %t, %v", ours, err)
	}
	alone := revisions(plane, nil)
	alone.releases["mesh"][baseRelease] = base
	if _, err := alone.existing(wanted); !errors.Is(err, install.ErrForeign) {
		t.Errorf("alone: %v", err)
	}
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
