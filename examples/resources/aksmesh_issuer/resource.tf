resource "aksmesh_trust_anchor" "this" {}

# Signed by an anchor whose key is in a Secret of the cluster. The issuer is renewed by the first apply within 60 days of
# its end; when the anchor changes, each apply does one stage of the rotation.
resource "aksmesh_issuer" "linkerd" {
  mesh             = "linkerd"
  trust_anchor_id  = aksmesh_trust_anchor.this.id
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
}

# Signed by a key that never leaves Azure Key Vault, and rotated in one apply that restarts the pods of five workloads at a time.
resource "aksmesh_trust_anchor" "vault" {
  name                = "vault"
  private_key_storage = "kms"
  kms_key_uri         = "azurekms:name=mesh-root;vault=prod-mesh"
}

resource "aksmesh_issuer" "istio" {
  mesh             = "istio"
  signer           = { kms_key_uri = aksmesh_trust_anchor.vault.signing_key_uri }
  trust_bundle_pem = aksmesh_trust_anchor.vault.bundle_pem
  rotation         = "complete"
  restart          = { max_parallel = 5, order = ["StatefulSet/dgraph/alpha"] }
}

# Made by an authority of your own, of a key that is in no state. Change the version with the key.
variable "root_pem" {
  type = string
}

variable "issuer_pem" {
  type = string
}

variable "issuer_key_pem" {
  type      = string
  ephemeral = true
}

resource "aksmesh_issuer" "own" {
  mesh             = "linkerd"
  namespace        = "linkerd-own"
  trust_bundle_pem = var.root_pem
  certificate = {
    pem                    = var.issuer_pem
    private_key_wo         = var.issuer_key_pem
    private_key_wo_version = "2026-08"
  }
}
