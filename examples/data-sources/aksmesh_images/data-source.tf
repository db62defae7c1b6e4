# What Linkerd runs with its dashboard, pinned to digests.
data "aksmesh_images" "linkerd" {
  linkerd = {
    version    = "2026.8.3"
    extensions = { viz = {} }
  }
}

# What Istio runs in ambient mode with Kiali, as the charts name it. Registries are
# not asked.
data "aksmesh_images" "istio" {
  istio = {
    version = "1.31.0"
    profile = "ambient"
    addons  = ["prometheus", "kiali"]
  }
  resolve = false
}

output "images" {
  value = data.aksmesh_images.linkerd.references
}

# Images for which registry and hub are not enough, and what has to name them.
output "by_value" {
  value = { for i in data.aksmesh_images.istio.images : i.reference => i.value if i.value != null }
}
