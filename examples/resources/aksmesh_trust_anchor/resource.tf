# ECDSA P-256, valid for ten years; the key stays in a Secret of the cluster.
resource "aksmesh_trust_anchor" "this" {}

output "trust_bundle" {
  value = aksmesh_trust_anchor.this.bundle_pem
}
