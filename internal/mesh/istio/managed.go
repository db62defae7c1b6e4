package istio

import "github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"

// ControlPlaneNamespace is where the control plane of a revision lives unless
// told otherwise: the one of the Istio add-on of AKS has a namespace of its own.
func ControlPlaneNamespace(revision string) string {
	if check.ManagedRevision(revision) {
		return check.AddonNamespace
	}
	return DefaultNamespace
}
