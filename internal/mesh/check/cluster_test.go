package check_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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
		"refused by a webhook without a code":      {answer: status(400, "", `admission webhook "validate.kyverno.svc-fail" denied the request: no webhooks`), refuses: true, says: []string{"kyverno"}},
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
			err := check.WebhooksAdmitted(api.Connect(t), says(test.azure))(t.Context())
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
	unlabelled := status(403, metav1.StatusReasonForbidden, `admission webhook "validation.gatekeeper.sh" denied the request: no label team`)
	for name, test := range map[string]struct {
		answer         metav1.Status
		whatever       metav1.Status // the answer to a pod that asks for nothing
		refuses, skips bool
	}{
		"admitted":          {},
		"baseline":          {answer: status(403, metav1.StatusReasonForbidden, `pods "aksmesh-preflight" is forbidden: violates PodSecurity "baseline:latest": non-default capabilities`), refuses: true},
		"Gatekeeper":        {answer: status(403, metav1.StatusReasonForbidden, `admission webhook "validation.gatekeeper.sh" denied the request: NET_ADMIN`), refuses: true},
		"Kyverno":           {answer: status(400, "", `admission webhook "validate.kyverno.svc-fail" denied the request: NET_ADMIN`), refuses: true},
		"whatever it has":   {answer: unlabelled, whatever: unlabelled, skips: true},
		"nobody knows":      {answer: unlabelled, whatever: status(500, metav1.StatusReasonInternalError, "failed calling webhook")},
		"no right to try":   {answer: status(403, metav1.StatusReasonForbidden, "User cannot create resource"), skips: true},
		"no account to use": {answer: status(403, metav1.StatusReasonForbidden, `error looking up service account default/default`), skips: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := checktest.New()
			api.PodRefusal = test.answer
			api.Admit = func(*unstructured.Unstructured) metav1.Status { return test.whatever }
			err := check.Redirected(api.Connect(t))(t.Context())
			_, refused := errors.AsType[*check.RefusedError](err)
			_, skipped := errors.AsType[*check.Skip](err)
			if refused != test.refuses || skipped != test.skips || (err == nil) != (!test.refuses && !test.skips && test.whatever.Code == 0) {
				t.Errorf("got %v", err)
			}
			if refused && !strings.Contains(err.Error(), "CNI plugin") {
				t.Errorf("no cure: %v", err)
			}
		})
	}
}

// TestSchedulable holds that tainted nodes are no matter where AKS makes others on
// demand.
func TestSchedulable(t *testing.T) {
	t.Parallel()
	tainted := func(context.Context) ([]*corev1.Node, error) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "CriticalAddonsOnly", Value: "true", Effect: corev1.TaintEffectNoSchedule}}}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		return []*corev1.Node{node}, nil
	}
	for name, test := range map[string]struct {
		azure string // what it says; nothing if it is not asked
		warns bool
	}{
		"nobody says":       {warns: true},
		"Azure fails":       {azure: "-", warns: true},
		"fixed pools":       {azure: `{"properties": {"nodeProvisioningProfile": {"mode": "Manual"}}}`, warns: true},
		"auto-provisioning": {azure: `{"properties": {"nodeProvisioningProfile": {"mode": "Auto"}}}`},
		"Automatic":         {azure: `{"sku": {"name": "Automatic"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := check.Schedulable(tainted, says(test.azure))(t.Context()); (err != nil) != test.warns {
				t.Errorf("got %v", err)
			}
		})
	}
}

// says is an Azure that says something; nil if that is nothing.
func says(text string) check.Managed {
	if text == "" {
		return nil
	}
	return func(context.Context) (*aks.ManagedCluster, error) {
		described := &aks.ManagedCluster{}
		return described, json.Unmarshal([]byte(text), described)
	}
}
