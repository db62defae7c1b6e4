package release

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// holder names the release among the holders of a namespace: its own name can
// be longer than a holder's may.
func (r *Release) holder() string {
	sum := sha256.Sum256([]byte(r.id()))
	return "release-" + hex.EncodeToString(sum[:])[:16]
}

func (r *Release) hold(e *entry, force bool) kube.Hold {
	return kube.Hold{
		Namespace: e.Object.GetName(), Holder: r.holder(), Force: force,
		Labels: e.Object.GetLabels(), Annotations: e.Object.GetAnnotations(),
	}
}
