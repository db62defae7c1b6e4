variable "grafana_password" {
  type      = string
  ephemeral = true
}

# A chart, with every pod of it in Linkerd.
resource "aksmesh_release" "dgraph" {
  name             = "dgraph"
  namespace        = "dgraph"
  create_namespace = true

  chart = {
    repository = "https://charts.dgraph.io"
    name       = "dgraph"
    version    = "0.0.17"
  }

  values = [yamlencode({
    fullnameOverride = "dgraph"
    alpha            = { replicaCount = 3 }
  })]

  mesh = {
    linkerd = {
      skip_inbound_ports  = ["5080", "7080"]
      skip_outbound_ports = ["5080", "7080"]
    }
  }
}

# A chart from a registry, with a value that Terraform never stores.
resource "aksmesh_release" "grafana" {
  name      = "grafana"
  namespace = "monitoring"

  chart = {
    repository = "oci://example.azurecr.io/charts"
    name       = "grafana"
    version    = "8.5.1"
  }

  set_wo          = { adminPassword = var.grafana_password }
  set_wo_revision = 1
}

# Manifests of somebody else, with every pod in Istio.
resource "aksmesh_release" "bookinfo" {
  name             = "bookinfo"
  namespace        = "bookinfo"
  create_namespace = true

  manifest_urls = [{
    url = "https://raw.githubusercontent.com/istio/istio/1.31.0/samples/bookinfo/platform/kube/bookinfo.yaml"
  }]

  mesh = {
    istio = {}
  }
}
