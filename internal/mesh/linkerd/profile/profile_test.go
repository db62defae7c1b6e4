package profile

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]Target{
		"emojivoto/web-svc.emojivoto.svc.cluster.local": {Service: "web-svc", Namespace: "emojivoto", Domain: "cluster.local"},
		"clients/web-svc.emojivoto.svc.cluster.local":   {Service: "web-svc", Namespace: "emojivoto", Domain: "cluster.local", ClientNamespace: "clients"},
		"svc/svc.svc.svc.svc.svc":                       {Service: "svc", Namespace: "svc", Domain: "svc.svc"},
	} {
		got, err := ParseID(id)
		if err != nil || got != want || got.ID() != id {
			t.Errorf("%s: %+v of ID %s, %v; want %+v", id, got, got.ID(), err, want)
		}
	}
	for _, id := range []string{
		"", "web", "emojivoto/web-svc", "web-svc.emojivoto.svc.cluster.local", "/web-svc.emojivoto.svc.cluster.local",
		"emojivoto/web-svc.emojivoto.svc.", "emojivoto/web-svc.emojivoto.cluster.local", "emojivoto/Web.emojivoto.svc.cluster.local", "a/b/c.d.svc.e",
	} {
		if got, err := ParseID(id); err == nil {
			t.Errorf("%q was read as %+v", id, got)
		}
	}
}

// asRead is what an API server that keeps numbers as it wants returns.
func asRead(t *testing.T, object *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	text, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	read := &unstructured.Unstructured{}
	if err := read.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	return read
}

// TestConditions brings conditions into the form that the CRD and the webhook
// agree on, which mean the same.
func TestConditions(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		`{"method":"GET","pathRegex":"/a"}`:                 `{"method":"GET","pathRegex":"/a"}`,
		`{"not":{"method":"GET"}}`:                          `{"all":[{"not":{"method":"GET"}}]}`,
		`{"all":[{"method":"GET"}],"not":{"method":"PUT"}}`: `{"all":[{"method":"GET"},{"not":{"method":"PUT"}}]}`,
		`{"any":[{"not":{"not":{"method":"GET"}}}]}`:        `{"any":[{"not":{"not":{"method":"GET"}}}]}`,
		`{"all":[]}`: `{"all":[]}`,
	} {
		condition, err := ParseRequestMatch(given)
		if err != nil {
			t.Errorf("%s: %v", given, err)
			continue
		}
		p := Profile{Target: Target{Service: "a", Namespace: "b", Domain: "c"}, Spec: Spec{Routes: []Route{{Name: "x", Condition: condition}}}}
		object, err := p.Object()
		if err != nil {
			t.Fatal(err)
		}
		var written Spec
		spec, _, err := unstructured.NestedMap(asRead(t, object).Object, "spec")
		if err == nil {
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &written)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := text(t, written.Routes[0].Condition); got != want {
			t.Errorf("%s is written as %s, want %s", given, got, want)
		}
		same, err := SameRoutes(written.Routes, p.Spec.Routes)
		if err != nil || !same {
			t.Errorf("%s is another condition as %s: %v", given, want, err)
		}
		if got := text(t, p.Spec.Routes[0].Condition); got != given {
			t.Errorf("the profile itself was changed from %s to %s", given, got)
		}
	}
	for _, other := range [][]Route{nil, {{Name: "a", Condition: RequestMatch{Not: &RequestMatch{Method: "PUT"}}}}, {{Name: "b", Condition: RequestMatch{Not: &RequestMatch{Method: "GET"}}}}} {
		if same, err := SameRoutes(other, []Route{{Name: "a", Condition: RequestMatch{Not: &RequestMatch{Method: "GET"}}}}); err != nil || same {
			t.Errorf("%v is the same: %v", other, err)
		}
	}
}

func text(t *testing.T, value any) string {
	t.Helper()
	marshalled, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(marshalled)
}

func TestManifest(t *testing.T) {
	t.Parallel()
	p := Profile{Target: Target{Service: "web", Namespace: "emojivoto", Domain: "cluster.local"}}
	const empty = "apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata:\n  name: web.emojivoto.svc.cluster.local\n  namespace: emojivoto\nspec:\n  routes: []\n"
	if got, err := p.Manifest(); err != nil || got != empty {
		t.Errorf("got %s, %v", got, err)
	}
	// What was built and what was read print the same, whatever the numbers.
	for _, ratio := range []float64{0, 0.2, 1, 2.5, 1e-7, 1e21} {
		p.Spec.RetryBudget = &RetryBudget{RetryRatio: ratio, TTL: "10s"}
		object, err := p.Object()
		if err != nil {
			t.Fatal(err)
		}
		built, err := p.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if read := text(t, asRead(t, object)); read != text(t, object) {
			t.Errorf("built %s, read %s; printed as %s", text(t, object), read, built)
		}
	}
}

func TestSpecCheck(t *testing.T) {
	t.Parallel()
	good := Spec{
		Routes: []Route{{
			Name: "a", Condition: RequestMatch{Any: []RequestMatch{{Method: "GET"}, {All: []RequestMatch{}}}}, Timeout: "-1s",
			ResponseClasses: []ResponseClass{{Condition: ResponseMatch{Status: &StatusRange{}}}, {Condition: ResponseMatch{Any: []ResponseMatch{}}}},
		}},
		RetryBudget:  &RetryBudget{TTL: "1s"},
		DstOverrides: []Override{{Authority: "a", Weight: "0"}},
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	within := func(m ResponseMatch) Spec {
		return Spec{Routes: []Route{{Name: "a", Condition: RequestMatch{Method: "GET"}, ResponseClasses: []ResponseClass{{Condition: m}}}}}
	}
	for want, bad := range map[string]Spec{
		"a route needs a name":                         {Routes: []Route{{}}},
		`route "a": a condition of requests`:           {Routes: []Route{{Name: "a"}}},
		"condition of requests has to say":             {Routes: []Route{{Name: "a", Condition: RequestMatch{Not: &RequestMatch{Any: []RequestMatch{{}}}}}}},
		"timeout: time: unknown unit":                  {Routes: []Route{{Name: "a", Condition: RequestMatch{Method: "GET"}, Timeout: "1y"}}},
		"condition of responses has to say":            within(ResponseMatch{All: []ResponseMatch{{}}}),
		"status 99 is not from 100 to 599":             within(ResponseMatch{Not: &ResponseMatch{Status: &StatusRange{Min: 99}}}),
		"status -1 is not":                             within(ResponseMatch{Status: &StatusRange{Max: -1}}),
		"min 500 is more than max 499":                 within(ResponseMatch{Status: &StatusRange{Min: 500, Max: 499}}),
		"ttl of the retry budget: time: invalid":       {RetryBudget: &RetryBudget{}},
		"cannot be negative":                           {RetryBudget: &RetryBudget{RetryRatio: -0.1, TTL: "1s"}},
		"an override needs an authority":               {DstOverrides: []Override{{Weight: "1"}}},
		`weight "": quantities must match the regular`: {DstOverrides: []Override{{Authority: "a"}}},
	} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
