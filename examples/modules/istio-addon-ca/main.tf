# A CA for AKS's Istio add-on, in Azure Key Vault. The anchor's key never leaves
# the vault; that of the CA is in the vault alone, not in the state.

locals {
  vault = element(split("/", var.key_vault_id), -1)
}

resource "aksmesh_trust_anchor" "this" {
  private_key_storage = "kms"
  kms_key_uri         = "azurekms:name=istio-root;vault=${local.vault}"
}

ephemeral "aksmesh_issuer" "this" {
  signer           = { kms_key_uri = aksmesh_trust_anchor.this.signing_key_uri }
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
  validity         = var.validity
}

# Certificates and key are those of one run: each run makes others, and only a new
# generation writes them. istiod sends the chain, which ends with the anchor, behind
# each certificate as it is.
resource "azurerm_key_vault_secret" "this" {
  for_each = toset(["root-cert", "cert-chain", "ca-cert", "ca-key"])

  name         = each.key
  key_vault_id = var.key_vault_id
  value_wo = {
    root-cert  = "${trimspace(ephemeral.aksmesh_issuer.this.bundle_pem)}\n"
    cert-chain = "${trimspace(ephemeral.aksmesh_issuer.this.chain_pem)}\n${trimspace(aksmesh_trust_anchor.this.certificate_pem)}\n"
    ca-cert    = ephemeral.aksmesh_issuer.this.certificate_pem
    ca-key     = ephemeral.aksmesh_issuer.this.private_key_pem
  }[each.key]
  value_wo_version = var.generation
}
