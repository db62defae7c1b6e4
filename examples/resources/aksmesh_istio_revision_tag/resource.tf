resource "aksmesh_istio" "stable" {
  version  = "1.30.2"
  revision = "1-30"

  # It goes only after what has used it has been brought to another revision.
  lifecycle {
    create_before_destroy = true
  }
}

# The next version beside the one in use.
resource "aksmesh_istio" "canary" {
  version  = "1.31.0"
  revision = "1-31"
  gateways = {}

  lifecycle {
    create_before_destroy = true
  }
}

# Moved by naming the other control plane.
resource "aksmesh_istio_revision_tag" "prod" {
  tag      = "prod"
  revision = aksmesh_istio.stable.revision
}

# Restarted by the apply that moves the tag.
resource "aksmesh_injection" "shop" {
  namespace = "shop"
  mesh      = { istio = { revision = aksmesh_istio_revision_tag.prod.tag } }
  follows   = [aksmesh_istio_revision_tag.prod.revision]
}
