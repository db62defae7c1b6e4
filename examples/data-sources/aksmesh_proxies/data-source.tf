# Every pod that is not as it would be if it were made now.
data "aksmesh_proxies" "stale" {
  list = "stale"
}

output "stale" {
  value = [for p in data.aksmesh_proxies.stale.proxies : "${p.namespace}/${p.pod}: ${join(", ", p.reasons)}"]
}

# A pipeline that must not go on while pods of Dgraph are outside of the mesh.
data "aksmesh_proxies" "dgraph" {
  namespace      = "dgraph"
  label_selector = "app=dgraph"
  list           = "none"
}

check "dgraph_is_meshed" {
  assert {
    condition     = data.aksmesh_proxies.dgraph.summary.unmeshed == 0 && data.aksmesh_proxies.dgraph.summary.stale == 0
    error_message = "Pods of Dgraph are outside of the mesh, or stale: ${jsonencode(data.aksmesh_proxies.dgraph.summary.by_reason)}"
  }
}
