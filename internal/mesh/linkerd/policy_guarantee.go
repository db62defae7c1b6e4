package linkerd

import (
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

func (w wire) guarantee(p access.Protection, strength access.Strength) string { return "" }

func (w wire) controlPlaneGuarantee(p access.Protection) string { return "" }
