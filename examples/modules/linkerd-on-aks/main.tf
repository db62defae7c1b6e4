# Linkerd on the AKS cluster that the provider is configured for.

data "aksmesh_cluster" "this" {
  lifecycle {
    postcondition {
      condition     = alltrue([for f in self.findings : f.severity != "error"])
      error_message = "This cluster cannot have the mesh: ${join(" ", [for f in self.findings : "${f.message} ${f.advice}" if f.severity == "error"])}"
    }
  }
}

resource "aksmesh_trust_anchor" "this" {
  private_key_storage = var.trust_anchor_key_uri == null ? "kubernetes_secret" : "kms"
  kms_key_uri         = var.trust_anchor_key_uri

  depends_on = [data.aksmesh_cluster.this]
}

resource "aksmesh_issuer" "this" {
  mesh             = "linkerd"
  trust_anchor_id  = var.trust_anchor_key_uri == null ? aksmesh_trust_anchor.this.id : null
  signer           = var.trust_anchor_key_uri == null ? null : { kms_key_uri = aksmesh_trust_anchor.this.signing_key_uri }
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
}

data "aksmesh_images" "this" {
  count = var.mirror == null ? 0 : 1

  linkerd = {
    version           = var.linkerd_version
    repository        = var.chart_repository
    registry          = var.mirror.source
    high_availability = var.high_availability
    values            = var.values
    extensions        = var.extensions
  }
}

resource "aksmesh_image_mirror" "this" {
  count = var.mirror == null ? 0 : 1

  acr_id = var.mirror.acr_id
  prefix = var.mirror.prefix
  method = var.mirror.method
  images = data.aksmesh_images.this[0].references
}

locals {
  registry = one(aksmesh_image_mirror.this[*].registry)
}

resource "aksmesh_linkerd" "this" {
  version           = var.linkerd_version
  repository        = var.chart_repository
  registry          = local.registry
  issuer_id         = aksmesh_issuer.this.id
  high_availability = var.high_availability
  gateway_api       = var.gateway_api
  values            = var.values
}

resource "aksmesh_linkerd_extension" "this" {
  for_each = var.extensions

  name              = each.key
  version           = aksmesh_linkerd.this.version
  repository        = var.chart_repository
  registry          = local.registry
  linkerd_namespace = aksmesh_linkerd.this.namespace
  high_availability = each.value.high_availability
  values            = each.value.values
}

resource "aksmesh_network_policy" "this" {
  for_each = var.mesh_only

  name         = each.key
  namespace    = each.value.namespace
  pod_selector = each.value.pod_selector
  ports        = each.value.ports

  mesh = {
    linkerd = {
      control_plane_namespace = aksmesh_linkerd.this.namespace
      version                 = aksmesh_linkerd.this.version
    }
  }
}

# What `linkerd check` says in the end. A check that fails fails the apply.
data "aksmesh_check" "this" {
  mesh       = "linkerd"
  fail_on    = "error"
  namespace  = aksmesh_linkerd.this.namespace
  depends_on = [aksmesh_linkerd_extension.this, aksmesh_network_policy.this]
}
