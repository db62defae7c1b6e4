package linkerd

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// everything stands for the grants that hold at the Server itself.
const everything = -2

// What one HTTPRoute takes.
const (
	maxMatches = 8
	maxRules   = 16
	maxPath    = 1024
)

// match is what one match of an HTTPRoute lets through.
type match struct {
	method string // empty for all
	path   string // without a / at its end if prefix is set, unless it is /
	prefix bool
}

func probeRoute(probe access.Probe) access.Route {
	if probe.GRPC {
		return access.Route{Methods: []string{"POST"}, Path: "/grpc.health.v1.Health/Check"}
	}
	return access.Route{Methods: []string{"GET"}, Path: probe.Path}
}

func matchesOf(route access.Route) []match {
	path := route.Path
	if route.Prefix {
		path = cmp.Or(strings.TrimRight(path, "/"), "/")
	}
	if len(route.Methods) == 0 {
		return []match{{"", path, route.Prefix}}
	}
	var matches []match
	for _, method := range route.Methods {
		matches = append(matches, match{method, path, route.Prefix})
	}
	return matches
}

// covers tells whether all requests of the other match are also this one's.
func (m match) covers(other match) bool {
	if m.method != "" && m.method != other.method {
		return false
	}
	if !m.prefix {
		return !other.prefix && m.path == other.path
	}
	return m.path == "/" || m.path == other.path || strings.HasPrefix(other.path, m.path+"/")
}

// meet is the match of the requests that are both matches', if there are any.
func (m match) meet(other match) (match, bool) {
	met := other
	if met.method == "" {
		met.method = m.method
	}
	anyMethod := func(m match) match { m.method = ""; return m }
	if anyMethod(other).covers(anyMethod(m)) {
		met.path, met.prefix = m.path, m.prefix
	}
	return met, m.covers(met) && other.covers(met)
}

func (m match) object() map[string]any {
	kind := "Exact"
	if m.prefix {
		kind = "PathPrefix"
	}
	object := map[string]any{"path": map[string]any{"type": kind, "value": m.path}}
	if m.method != "" {
		object["method"] = m.method
	}
	return object
}

// routeBook says which grants a match belongs to.
type routeBook map[match][]int

func (b routeBook) add(grant int, route access.Route) {
	for _, m := range matchesOf(route) {
		b[m] = append(b[m], grant)
	}
}

// routeGroup is the matches that the same grants let through.
type routeGroup struct {
	matches []match
	grants  []int
}

// groups parts the requests by who may make them. A request goes by the most
// specific match alone, whoever else has a wider one. So where matches overlap,
// what they have in common becomes a match of its own, with the grants of all
// that cover it: then the most specific match of a request is covered by all
// others that it has, and grants as much as they do together.
func (b routeBook) groups() ([]routeGroup, error) {
	matches := slices.Collect(maps.Keys(b))
	for i := 0; i < len(matches); i++ {
		for j := range i {
			if met, overlap := matches[i].meet(matches[j]); overlap && !slices.Contains(matches, met) {
				matches = append(matches, met)
			}
		}
		if len(matches) > maxMatches*maxRules {
			return nil, errors.New("the routes overlap in too many ways: name fewer")
		}
	}
	slices.SortFunc(matches, func(x, y match) int {
		return cmp.Or(strings.Compare(x.path, y.path), strings.Compare(x.method, y.method), compareBools(x.prefix, y.prefix))
	})
	var groups []routeGroup
	for _, m := range matches {
		var grants []int
		for wider, of := range b {
			if wider.covers(m) {
				grants = append(grants, of...)
			}
		}
		slices.Sort(grants)
		grants = slices.Compact(grants)
		i := slices.IndexFunc(groups, func(g routeGroup) bool { return slices.Equal(g.grants, grants) })
		if i < 0 {
			groups = append(groups, routeGroup{grants: grants})
			i = len(groups) - 1
		}
		groups[i].matches = append(groups[i].matches, m)
	}
	return groups, nil
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
