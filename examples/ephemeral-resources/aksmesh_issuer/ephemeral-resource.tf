# The trust anchor is in the cluster "home"; the mesh of the cluster "away" shares it.
provider "aksmesh" {
  alias      = "home"
  kubernetes = { config_path = "~/.kube/config", config_context = "home" }
}

provider "aksmesh" {
  alias      = "away"
  kubernetes = { config_path = "~/.kube/config", config_context = "away" }
}

resource "aksmesh_trust_anchor" "shared" {
  provider = aksmesh.home
}

ephemeral "aksmesh_issuer" "away" {
  provider         = aksmesh.home
  trust_anchor_id  = aksmesh_trust_anchor.shared.id
  trust_bundle_pem = aksmesh_trust_anchor.shared.bundle_pem
}

# The anchor's key stays at home, and the issuer's is in no state. It is replaced when it is due.
resource "aksmesh_issuer" "away" {
  provider         = aksmesh.away
  mesh             = "linkerd"
  trust_bundle_pem = aksmesh_trust_anchor.shared.bundle_pem
  certificate = {
    pem_wo         = ephemeral.aksmesh_issuer.away.chain_pem
    private_key_wo = ephemeral.aksmesh_issuer.away.private_key_pem
  }
}

# For another tool, from a key that never leaves Azure Key Vault.
ephemeral "aksmesh_issuer" "vault" {
  signer           = { kms_key_uri = "azurekms:name=mesh-root;vault=prod-mesh?version=0123456789abcdef0123456789abcdef" }
  trust_bundle_pem = aksmesh_trust_anchor.shared.bundle_pem
  validity         = "720h"
}
