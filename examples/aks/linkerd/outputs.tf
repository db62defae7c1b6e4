output "dgraph" {
  description = "What the pods of the database show."
  value       = "${aksmesh_release.dgraph.meshed_pods} of ${aksmesh_release.dgraph.total_pods} pods are meshed"
}

output "registry" {
  description = "Where the images of the mesh come from."
  value       = module.linkerd.registry
}

output "guarantee" {
  description = "What the policy guarantees, and what it does not."
  value       = module.linkerd.guarantees["alpha"]
}
