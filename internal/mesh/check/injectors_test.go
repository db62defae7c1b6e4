package check_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// TestNoAddon holds that Azure tells of an Istio of AKS's that is on its way, that
// the webhooks tell of one that is there, and that the two kinds are told apart.
func TestNoAddon(t *testing.T) {
	t.Parallel()
	errUnread := errors.New("webhooks are not to be read")
	const (
		addon   = `{"name": "prod", "properties": {"serviceMeshProfile": {"mode": "Istio", "istio": {"revisions": ["asm-1-29", "asm-1-30"]}}}}`
		routing = `{"name": "prod", "properties": {"serviceMeshProfile": {"mode": "Disabled"}, "ingressProfile": {"webAppRouting": {"gatewayAPIImplementations": {"appRoutingIstio": {"mode": "Enabled"}}}}}}`
		neither = `{"name": "prod", "properties": {"ingressProfile": {"webAppRouting": {"enabled": true}}}}`
		disable = "az aks mesh disable"
		without = "--disable-app-routing-istio"
	)
	for name, test := range map[string]struct {
		azure    string // what it says; nothing if it is not asked, "-" if it fails
		injector string // <namespace>/<revision>; "-" if webhooks may not be read
		want     []string
	}{
		"nothing":                      {},
		"another Istio":                {injector: "istio-system/default"},
		"the add-on":                   {injector: "aks-istio-system/asm-1-30", want: []string{"MutatingWebhookConfiguration injector", disable}},
		"App Routing":                  {injector: "aks-istio-system/default", want: []string{"App Routing", "MutatingWebhookConfiguration injector", without}},
		"the add-on, on its way":       {azure: addon, want: []string{"cluster prod", "asm-1-29, asm-1-30", disable}},
		"the add-on, unread":           {azure: addon, injector: "-", want: []string{"cluster prod", disable}},
		"App Routing, on its way":      {azure: routing, want: []string{"App Routing", "cluster prod", without}},
		"neither, and nothing there":   {azure: neither},
		"neither, and still there":     {azure: neither, injector: "aks-istio-system/asm-1-30", want: []string{disable}},
		"neither, and unread":          {azure: neither, injector: "-", want: []string{errUnread.Error()}},
		"Azure fails, and it is there": {azure: "-", injector: "aks-istio-system/asm-1-30", want: []string{disable}},
		"Azure fails, and it is not":   {azure: "-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var managed check.Managed
			if test.azure != "" {
				managed = func(context.Context) (*aks.ManagedCluster, error) {
					described := &aks.ManagedCluster{}
					return described, json.Unmarshal([]byte(test.azure), described)
				}
			}
			read := func(context.Context) ([]*unstructured.Unstructured, error) {
				if test.injector == "-" {
					return nil, errUnread
				}
				return injectorAt(test.injector), nil
			}
			err := check.NoAddon(read, managed)(t.Context())
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, word := range test.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("got %v, want %q in it", err, word)
				}
			}
		})
	}
}

// injectorAt is the injector of an Istio, by `<namespace>/<revision>`; none if that
// is empty.
func injectorAt(plane string) []*unstructured.Unstructured {
	namespace, revision, found := strings.Cut(plane, "/")
	if !found {
		return nil
	}
	return []*unstructured.Unstructured{{Object: map[string]any{
		"metadata": map[string]any{"name": "injector", "labels": map[string]any{"app": "sidecar-injector", "istio.io/rev": revision}},
		"webhooks": []any{map[string]any{"clientConfig": map[string]any{"service": map[string]any{"namespace": namespace, "name": "istiod"}}}},
	}}}
}

// TestOtherMeshes holds that the Istio of App Routing, which is no mesh, is none
// beside Linkerd either.
func TestOtherMeshes(t *testing.T) {
	t.Parallel()
	for injector, other := range map[string]bool{"": false, "istio-system/default": true, "aks-istio-system/asm-1-30": true, "aks-istio-system/default": false} {
		if err := check.OtherMeshes("Linkerd")(injectorAt(injector)); (err != nil) != other {
			t.Errorf("%q: %v", injector, err)
		}
	}
}
