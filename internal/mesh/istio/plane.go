package istio

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Plane is one control plane: the istiods of a revision in a namespace, which
// may have several beside each other.
type Plane struct {
	Namespace string
	// Revision is empty for the default one.
	Revision string
}

// ParsePlane reads what String wrote: `<namespace>` or `<namespace>/<revision>`.
func ParsePlane(id string) (Plane, error) {
	namespace, revision, found := strings.Cut(id, "/")
	if namespace == "" || found && CheckRevision(revision) != nil {
		return Plane{}, fmt.Errorf("%q is neither a namespace nor <namespace>/<revision>", id)
	}
	return Plane{Namespace: namespace, Revision: revision}, nil
}

// String identifies the control plane among all of a cluster.
func (p Plane) String() string {
	if p.Revision == "" {
		return p.Namespace
	}
	return p.Namespace + "/" + p.Revision
}

// Label is what the control plane's objects and proxies carry for a revision.
func (p Plane) Label() string {
	if p.Revision == "" {
		return defaultRevision
	}
	return p.Revision
}

// release names the Helm release of istiod, which is also its Deployment.
func (p Plane) release() string { return deploymentOf(p.Revision) }

// holder is who holds the namespaces of the control plane.
func (p Plane) holder() string { return suffixed("istio", p.Revision) }

// The charts put the revision into names of Services, after `istiod-`.
var revisionPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,54}[a-z0-9])?$`)

// CheckRevision refuses what cannot be a revision's name, or is no revision
// beside the default one.
func CheckRevision(revision string) error {
	switch {
	case strings.Contains(revision, "."):
		return fmt.Errorf("revision %q has dots, which names of Services cannot have; write %q", revision, strings.ReplaceAll(revision, ".", "-"))
	case revision == defaultRevision:
		return errors.New("the default revision has no name: leave the attribute out")
	case !revisionPattern.MatchString(revision):
		return fmt.Errorf("revision %q is not made of at most 56 lower-case letters, digits and dashes, beginning and ending with a letter or digit", revision)
	}
	return nil
}
