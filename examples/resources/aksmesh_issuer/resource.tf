resource "aksmesh_trust_anchor" "this" {}

# Renewed by the first apply within 60 days of its expiry.
resource "aksmesh_issuer" "linkerd" {
  trust_anchor_id  = aksmesh_trust_anchor.this.id
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
  mesh             = "linkerd"
  validity         = "8760h"
  early_renewal    = "1440h"
}
