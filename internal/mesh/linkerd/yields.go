package linkerd

import (
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// The manager by which AKS writes into webhook configurations.
const admissionsEnforcer = "admissionsenforcer"

// Yields are the fields of the charts' objects that others than Helm set: AKS
// keeps webhooks away from its own namespaces, by expressions that differ
// between its versions, and cert-manager fills in the bundles of the certificates
// that it has in hand. Linkerd itself writes into none of them, in any version.
func Yields() install.Yields {
	enforced := []string{"control-plane", "kubernetes.azure.com/managedby", "kubernetes.io/metadata.name"}
	selector := []string{"webhooks", "*", "namespaceSelector", "matchExpressions"}
	return install.Yields{
		{Kind: kube.MutatingWebhookConfiguration, Path: selector, Owner: admissionsEnforcer, Keys: enforced},
		{Kind: kube.ValidatingWebhookConfiguration, Path: selector, Owner: admissionsEnforcer, Keys: enforced},
	}
}
