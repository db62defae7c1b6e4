# Istio on the AKS cluster that the provider is configured for: from its charts, or
# as AKS's add-on.

data "aksmesh_cluster" "this" {
  lifecycle {
    postcondition {
      condition     = alltrue([for f in self.findings : f.severity != "error"])
      error_message = "This cluster cannot have the mesh: ${join(" ", [for f in self.findings : "${f.message} ${f.advice}" if f.severity == "error"])}"
    }
    postcondition {
      condition     = !local.addon || try(contains(self.istio_addon.revisions, var.addon_revision), false)
      error_message = "The Istio add-on of this cluster does not have this revision. Its revisions are those of service_mesh_profile of azurerm_kubernetes_cluster."
    }
  }
}

locals {
  addon    = var.addon_revision != null
  registry = one(aksmesh_image_mirror.this[*].registry)
}

# The add-on signs by a CA that AKS makes, unless AKS is told another one in Azure Key Vault.
resource "aksmesh_trust_anchor" "this" {
  count = local.addon ? 0 : 1

  private_key_storage = var.trust_anchor_key_uri == null ? "kubernetes_secret" : "kms"
  kms_key_uri         = var.trust_anchor_key_uri

  depends_on = [data.aksmesh_cluster.this]
}

resource "aksmesh_issuer" "this" {
  count = local.addon ? 0 : 1

  mesh             = "istio"
  trust_anchor_id  = var.trust_anchor_key_uri == null ? aksmesh_trust_anchor.this[0].id : null
  signer           = var.trust_anchor_key_uri == null ? null : { kms_key_uri = aksmesh_trust_anchor.this[0].signing_key_uri }
  trust_bundle_pem = aksmesh_trust_anchor.this[0].bundle_pem
}

data "aksmesh_images" "this" {
  count = var.mirror == null ? 0 : 1

  istio = {
    version    = var.istio_version
    repository = var.chart_repository
    profile    = var.profile
    values     = { istiod = var.values }
  }
}

resource "aksmesh_image_mirror" "this" {
  count = var.mirror == null ? 0 : 1

  acr_id = var.mirror.acr_id
  prefix = var.mirror.prefix
  method = var.mirror.method
  images = data.aksmesh_images.this[0].references
}

resource "aksmesh_istio" "this" {
  count = local.addon ? 0 : 1

  version    = var.istio_version
  repository = var.chart_repository
  profile    = var.profile
  hub        = local.registry
  issuer_id  = aksmesh_issuer.this[0].id
  values     = { istiod = var.values }
}

locals {
  # The add-on has no default revision, so pods have to name theirs.
  control_plane = {
    revision                = var.addon_revision
    control_plane_namespace = local.addon ? "aks-istio-system" : one(aksmesh_istio.this[*].namespace)
  }
}

resource "aksmesh_injection" "this" {
  for_each = var.namespaces

  namespace = each.key
  mesh      = { istio = local.control_plane }

  depends_on = [data.aksmesh_cluster.this]
}

resource "aksmesh_network_policy" "this" {
  for_each = var.mesh_only

  name         = each.key
  namespace    = each.value.namespace
  pod_selector = each.value.pod_selector
  ports        = each.value.ports
  mesh         = { istio = {} }
}

# What is wrong with the mesh in the end. A check that fails fails the apply.
data "aksmesh_check" "this" {
  mesh       = "istio"
  fail_on    = "error"
  namespace  = local.control_plane.control_plane_namespace
  revision   = var.addon_revision
  depends_on = [aksmesh_injection.this, aksmesh_network_policy.this]
}
