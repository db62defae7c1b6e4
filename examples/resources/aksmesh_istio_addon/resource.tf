resource "aksmesh_istio" "this" {
  version = "1.31.0"
}

# Prometheus, and Kiali and Grafana that show what it has.
resource "aksmesh_istio_addon" "telemetry" {
  for_each = toset(["prometheus", "kiali", "grafana"])

  name    = each.key
  version = aksmesh_istio.this.version
}

# From a copy of Istio's release instead of GitHub.
resource "aksmesh_istio_addon" "jaeger" {
  name    = "jaeger"
  version = aksmesh_istio.this.version
  source  = "${path.module}/istio-${aksmesh_istio.this.version}"
}
