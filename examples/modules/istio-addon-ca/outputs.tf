output "certificate_authority" {
  description = "What the block certificate_authority takes in service_mesh_profile of azurerm_kubernetes_cluster."
  value = {
    key_vault_id           = var.key_vault_id
    root_cert_object_name  = azurerm_key_vault_secret.this["root-cert"].name
    cert_chain_object_name = azurerm_key_vault_secret.this["cert-chain"].name
    cert_object_name       = azurerm_key_vault_secret.this["ca-cert"].name
    key_object_name        = azurerm_key_vault_secret.this["ca-key"].name
  }
}

output "trust_bundle_pem" {
  description = "Certificates that pods of the mesh trust."
  value       = aksmesh_trust_anchor.this.bundle_pem
}
