output "namespace" {
  description = "Namespace of the control plane."
  value       = local.control_plane.control_plane_namespace
}

output "mesh" {
  description = "What aksmesh_release.mesh and aksmesh_injection.mesh take."
  value       = { istio = local.control_plane }
}

output "trust_bundle_pem" {
  description = "Certificates that meshed pods trust, for clusters that are to share the mesh; null with the add-on."
  value       = one(aksmesh_trust_anchor.this[*].bundle_pem)
}

output "registry" {
  description = "Where the images come from; null for the public registry, and with the add-on."
  value       = local.registry
}

output "guarantees" {
  description = "What each policy of mesh_only guarantees, and what it does not."
  value       = { for name, policy in aksmesh_network_policy.this : name => policy.guarantee }
}

output "findings" {
  description = "What about the cluster matters to a mesh."
  value       = [for f in data.aksmesh_cluster.this.findings : "${f.severity}: ${f.message} ${f.advice}"]
}

output "warnings" {
  description = "What the checks of the mesh warn of."
  value       = [for r in data.aksmesh_check.this.results : "${r.id}: ${r.message}" if r.result == "warning"]
}
