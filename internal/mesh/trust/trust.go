// Package trust keeps a mesh's certificates in the cluster: the Secret of a
// trust anchor, which only the provider reads, and the Secret by which a mesh
// is given its issuer. Private keys go from the provider's memory to these
// Secrets and nowhere else.
package trust

import "fmt"

// anchorAnnotation on an issuer's Secret is the ID of its anchor.
const anchorAnnotation = "aksmesh.io/trust-anchor"

// ExistsError tells that something is in the place of what was to be made.
type ExistsError struct {
	// Object is what is there, Import the ID to take it over with.
	Object, Import string
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s already exists and is not known to this state; bring it under management with `terraform import <address> %s`, or delete it", e.Object, e.Import)
}
