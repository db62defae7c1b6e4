data "aksmesh_images" "linkerd" {
  linkerd = {
    version    = "2026.8.3"
    registry   = "ghcr.io/linkerd" # which cr.l5d.io only redirects to
    extensions = { viz = {} }
  }
}

resource "azurerm_container_registry" "this" {
  name                = "example"
  resource_group_name = "rg-mesh"
  location            = "westeurope"
  sku                 = "Standard"
}

# The registry fetches the images by itself.
resource "aksmesh_image_mirror" "linkerd" {
  acr_id = azurerm_container_registry.this.id
  prefix = "linkerd"
  images = data.aksmesh_images.linkerd.references
}

resource "aksmesh_trust_anchor" "this" {}

resource "aksmesh_issuer" "linkerd" {
  trust_anchor_id  = aksmesh_trust_anchor.this.id
  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
  mesh             = "linkerd"
}

resource "aksmesh_linkerd" "this" {
  version   = "2026.8.3"
  registry  = aksmesh_image_mirror.linkerd.registry
  issuer_id = aksmesh_issuer.linkerd.id
}

resource "aksmesh_linkerd_extension" "viz" {
  name     = "viz"
  version  = aksmesh_linkerd.this.version
  registry = aksmesh_image_mirror.linkerd.registry
}

# Any other registry gets them through this machine.
resource "aksmesh_image_mirror" "applications" {
  host   = "registry.example.com:5000"
  prefix = "dgraph"
  images = ["docker.io/dgraph/dgraph:v24.1.4"]
}
