# ECDSA P-256, valid for ten years, rotated by the first apply within 60 days of
# its end. The key stays in a Secret of the cluster.
resource "aksmesh_trust_anchor" "this" {}

output "trust_bundle" {
  value = aksmesh_trust_anchor.this.bundle_pem
}

# The key never leaves Azure Key Vault, where each generation gets a version of it.
resource "aksmesh_trust_anchor" "vault" {
  name                = "vault"
  private_key_storage = "kms"
  kms_key_uri         = "azurekms:name=mesh-root;vault=example-keys"
  subject             = { organization = "Example", country = "DE" }
  rotation_trigger    = "2027" # changed by hand to rotate sooner than needed
}

# Made elsewhere, beside an anchor of another cluster that is trusted too.
resource "aksmesh_trust_anchor" "given" {
  name                        = "given"
  certificate_pem             = var.certificate
  private_key_wo              = var.private_key
  additional_certificates_pem = [var.other_cluster]
}

variable "certificate" {
  type = string
}

variable "private_key" {
  type      = string
  sensitive = true
  ephemeral = true
}

variable "other_cluster" {
  type = string
}
