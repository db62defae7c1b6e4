package linkerd

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestWebhookTrusts(t *testing.T) {
	t.Parallel()
	injector := webhooks()[0]
	secret := &corev1.Secret{Data: map[string][]byte{caBundleKey: []byte("renewed")}}
	for name, test := range map[string]struct {
		values map[string]any
		want   bool
	}{
		"told":                   {webhookValues(map[string]string{injector.values: "renewed"}), true},
		"told of the one before": {webhookValues(map[string]string{injector.values: "before"}), false},
		"told of another's":      {webhookValues(map[string]string{"policyValidator": "renewed"}), false},
		"not told":               {nil, false},
		"no mapping":             {map[string]any{injector.values: "renewed"}, false},
	} {
		if got := injector.trusts(test.values, secret); got != test.want {
			t.Errorf("%s: got %t, want %t", name, got, test.want)
		}
	}
}
