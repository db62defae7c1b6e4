package istio

import (
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// The field managers that write into what Istio's charts create.
const pilotDiscovery = "pilot-discovery"

// Yields are the fields of the charts' objects that are others' to set, in all
// versions alike: by istiod the CA bundle of all webhooks and, with it, the failure
// policy of the validators (istio's pkg/webhooks/validation/controller), which
// older charts set back with each upgrade and newer ones no more; and what AKS adds.
func Yields() kube.Yields {
	return append(kube.Yields{
		{Kind: kube.MutatingWebhookConfiguration, Path: []string{"webhooks", "*", "clientConfig", "caBundle"}, Owner: pilotDiscovery},
		{Kind: kube.ValidatingWebhookConfiguration, Path: []string{"webhooks", "*", "clientConfig", "caBundle"}, Owner: pilotDiscovery},
		{Kind: kube.ValidatingWebhookConfiguration, Path: []string{"webhooks", "*", "failurePolicy"}, Owner: pilotDiscovery, Values: []any{"Fail", "Ignore"}},
	}, kube.EnforcerYields()...)
}
