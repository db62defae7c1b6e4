package istio

import (
	"regexp"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

// managedRevision is how the Istio add-on of AKS names its revisions: asm-1-30.
//
// https://learn.microsoft.com/azure/aks/istio-support-policy
var managedRevision = regexp.MustCompile(`^asm-\d+-\d+$`)

// ControlPlaneNamespace is where the control plane of a revision lives unless
// told otherwise: the one of the Istio add-on of AKS has a namespace of its own.
func ControlPlaneNamespace(revision string) string {
	if managedRevision.MatchString(revision) {
		return check.AddonNamespace
	}
	return DefaultNamespace
}
