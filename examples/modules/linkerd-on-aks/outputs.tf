output "namespace" {
  description = "Namespace of the control plane."
  value       = aksmesh_linkerd.this.namespace
}

output "mesh" {
  description = "What aksmesh_release.mesh and aksmesh_injection.mesh take."
  value       = { linkerd = { control_plane_namespace = aksmesh_linkerd.this.namespace } }
}

output "trust_bundle_pem" {
  description = "Certificates that meshed pods trust, for clusters that are to share the mesh."
  value       = aksmesh_trust_anchor.this.bundle_pem
}

output "registry" {
  description = "Where the images come from; null for the public registries."
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
  description = "What `linkerd check` warns of."
  value       = [for r in data.aksmesh_check.this.results : "${r.id}: ${r.message}" if r.result == "warning"]
}
