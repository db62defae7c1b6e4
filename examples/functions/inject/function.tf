# Injects manifests that something else applies: GitOps reads the file.
resource "local_file" "dgraph" {
  filename = "${path.root}/deploy/dgraph.yaml"

  content = provider::aksmesh::inject(file("${path.module}/dgraph.yaml"), {
    linkerd = {
      skip_inbound_ports  = [5080, 7080]
      skip_outbound_ports = [5080, 7080]
    }
  })
}

# The same for a revision of Istio, of several files at once.
output "shop" {
  value = provider::aksmesh::inject(
    join("\n---\n", [for name in sort(fileset(path.module, "shop/*.yaml")) : file("${path.module}/${name}")]),
    { istio = { revision = "canary" } },
  )
}
