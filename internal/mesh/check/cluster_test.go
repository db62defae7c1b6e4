package check_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check/checktest"
)

func status(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}
}

// TestWebhooksAdmitted holds who decides whether a cluster admits webhooks: the API
// server by a try, and Azure where it describes a cluster that is known to block
// them.
func TestWebhooksAdmitted(t *testing.T) {
	t.Parallel()
	refused := status(403, metav1.StatusReasonForbidden, "ValidatingAdmissionPolicy 'aks-managed-x' with binding 'b' denied request: no webhooks")
	const (
		blocking = `{"name": "prod", "sku": {"name": "Automatic"}, "properties": {"currentKubernetesVersion": "1.35.4", "hostedSystemProfile": {"enabled": true}}}`
		older    = `{"name": "prod", "sku": {"name": "Automatic"}, "properties": {"kubernetesVersion": "1.34"}}`
		newer    = `{"name": "prod", "sku": {"name": "Automatic"}, "properties": {"currentKubernetesVersion": "1.36.0", "kubernetesVersion": "1.35", "hostedSystemProfile": {"enabled": true}}}`
		base     = `{"name": "prod", "sku": {"name": "Base"}, "properties": {"currentKubernetesVersion": "1.30.1"}}`
	)
	for name, test := range map[string]struct {
		azure   string // what it says; nothing if it is not asked, "-" if it fails
		answer  metav1.Status
		refuses bool
		skips   bool
		says    []string
	}{
		"admitted":                                 {},
		"refused":                                  {answer: refused, refuses: true, says: []string{"aks-managed-x", "from Kubernetes 1.36 on"}},
		"no right to try":                          {answer: status(403, metav1.StatusReasonForbidden, "User cannot create resource"), skips: true},
		"no answer":                                {answer: status(500, metav1.StatusReasonInternalError, "restarting"), says: []string{"restarting"}},
		"Azure fails, admitted":                    {azure: "-"},
		"Azure fails, refused":                     {azure: "-", answer: refused, refuses: true, says: []string{"aks-managed-x"}},
		"blocking, refused":                        {azure: blocking, answer: refused, refuses: true, says: []string{"AKS Automatic cluster prod has Kubernetes 1.35.4", "az aks upgrade", "aks-managed-x"}},
		"blocking, no right to try":                {azure: blocking, answer: status(403, metav1.StatusReasonForbidden, "User cannot create resource"), refuses: true, says: []string{"1.35.4", "may not look"}},
		"blocking, no answer":                      {azure: blocking, answer: status(500, metav1.StatusReasonInternalError, "restarting"), refuses: true, says: []string{"1.35.4"}},
		"blocking, though the try has succeeded":   {azure: blocking, refuses: true, says: []string{"before 1.36 AKS Automatic blocks"}},
		"older than what blocks, and it succeeds":  {azure: older},
		"older than what blocks, and nobody knows": {azure: older, answer: status(403, metav1.StatusReasonForbidden, "User cannot create resource"), refuses: true, says: []string{"Kubernetes 1.34"}},
		"Automatic that admits":                    {azure: newer},
		"Automatic that admits, with a policy":     {azure: newer, answer: refused, refuses: true, says: []string{"aks-managed-x"}},
		"a cluster of the sku Base":                {azure: base},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := checktest.New()
			api.Refusal = test.answer
			var managed check.Managed
			if test.azure != "" {
				managed = func(context.Context) (*aks.ManagedCluster, error) {
					described := &aks.ManagedCluster{}
					return described, json.Unmarshal([]byte(test.azure), described)
				}
			}
			err := check.WebhooksAdmitted(api.Connect(t), managed)(t.Context())
			_, refused := errors.AsType[*check.RefusedError](err)
			_, skipped := errors.AsType[*check.Skip](err)
			if refused != test.refuses || skipped && !refused != test.skips || (err == nil) != (!test.refuses && !test.skips && len(test.says) == 0) {
				t.Errorf("got %v", err)
			}
			for _, word := range test.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("got %v, want %q in it", err, word)
				}
			}
		})
	}
}

// TestRedirected holds what refuses the init containers of meshes.
func TestRedirected(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer         metav1.Status
		refuses, skips bool
	}{
		"admitted":          {},
		"baseline":          {answer: status(403, metav1.StatusReasonForbidden, `pods "aksmesh-preflight" is forbidden: violates PodSecurity "baseline:latest": non-default capabilities`), refuses: true},
		"Gatekeeper":        {answer: status(403, metav1.StatusReasonForbidden, `admission webhook "validation.gatekeeper.sh" denied the request: NET_ADMIN`), refuses: true},
		"no right to try":   {answer: status(403, metav1.StatusReasonForbidden, "User cannot create resource"), skips: true},
		"no account to use": {answer: status(403, metav1.StatusReasonForbidden, `error looking up service account default/default`), skips: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := checktest.New()
			api.PodRefusal = test.answer
			err := check.Redirected(api.Connect(t))(t.Context())
			_, refused := errors.AsType[*check.RefusedError](err)
			_, skipped := errors.AsType[*check.Skip](err)
			if refused != test.refuses || skipped != test.skips || (err == nil) != (!test.refuses && !test.skips) {
				t.Errorf("got %v", err)
			}
			if refused && !strings.Contains(err.Error(), "CNI plugin") {
				t.Errorf("no cure: %v", err)
			}
		})
	}
}
