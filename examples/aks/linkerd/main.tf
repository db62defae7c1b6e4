# From nothing to a Dgraph on AKS that only clients in the mesh can reach: network,
# registry, cluster, Linkerd with its images in that registry, database and policy,
# in one apply.

terraform {
  required_version = ">= 1.11"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.57, < 6.0"
    }
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}

# Both log in by the same ARM_* variables, or by `az login`.
provider "azurerm" {
  features {}
}

# The ID is not known before the cluster is there. Until then a plan asks nobody.
provider "aksmesh" {
  aks = {
    id             = azurerm_kubernetes_cluster.this.id
    wait_for_roles = "5m" # those that are assigned below
  }
}

data "azurerm_client_config" "this" {}

resource "azurerm_resource_group" "this" {
  name     = "rg-${var.name}"
  location = var.location
}

resource "azurerm_virtual_network" "this" {
  name                = "vnet-${var.name}"
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  address_space       = ["10.240.0.0/16"]
}

resource "azurerm_subnet" "nodes" {
  name                 = "nodes"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = ["10.240.0.0/22"]
}

resource "azurerm_container_registry" "this" {
  name                = var.registry_name
  location            = azurerm_resource_group.this.location
  resource_group_name = azurerm_resource_group.this.name
  sku                 = "Standard"
}

# Azure CNI Overlay with Cilium, which enforces network policies. Whoever works in
# the cluster is known to Microsoft Entra ID; there are no other accounts.
resource "azurerm_kubernetes_cluster" "this" {
  name                      = "aks-${var.name}"
  location                  = azurerm_resource_group.this.location
  resource_group_name       = azurerm_resource_group.this.name
  dns_prefix                = var.name
  sku_tier                  = "Standard"
  local_account_disabled    = true
  oidc_issuer_enabled       = true
  workload_identity_enabled = true

  default_node_pool {
    name           = "system"
    vm_size        = "Standard_D4ds_v5"
    node_count     = 3
    vnet_subnet_id = azurerm_subnet.nodes.id
  }

  node_provisioning_profile {
    mode = "Manual"
  }

  identity {
    type = "SystemAssigned"
  }

  network_profile {
    network_plugin      = "azure"
    network_plugin_mode = "overlay"
    network_data_plane  = "cilium"
    network_policy      = "cilium"
    pod_cidr            = "10.244.0.0/16"
    service_cidr        = "10.0.0.0/16"
    dns_service_ip      = "10.0.0.10"
  }

  azure_active_directory_role_based_access_control {
    tenant_id          = data.azurerm_client_config.this.tenant_id
    azure_rbac_enabled = true
  }
}

# The nodes pull from the registry.
resource "azurerm_role_assignment" "nodes" {
  scope                = azurerm_container_registry.this.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_kubernetes_cluster.this.kubelet_identity[0].object_id
}

# Whoever runs this works in the cluster, and has the registry import images.
resource "azurerm_role_assignment" "operator" {
  for_each = {
    "Azure Kubernetes Service Cluster User Role"       = azurerm_kubernetes_cluster.this.id
    "Azure Kubernetes Service RBAC Cluster Admin"      = azurerm_kubernetes_cluster.this.id
    "Container Registry Data Importer and Data Reader" = azurerm_container_registry.this.id
  }

  scope                = each.value
  role_definition_name = each.key
  principal_id         = data.azurerm_client_config.this.object_id
}

module "linkerd" {
  source = "../../modules/linkerd-on-aks"

  linkerd_version  = var.linkerd_version
  chart_repository = var.chart_repository
  gateway_api      = { crds = "install", source = var.gateway_api_source }

  mirror = {
    acr_id = azurerm_container_registry.this.id
  }

  # Clients speak on 8080 and 9080, Dgraph's own peers on 7080.
  mesh_only = {
    alpha = {
      namespace    = aksmesh_release.dgraph.namespace
      pod_selector = { app = "dgraph", component = "alpha" }
      ports        = [7080, 8080, 9080]
    }
  }

  depends_on = [azurerm_role_assignment.nodes, azurerm_role_assignment.operator]
}

resource "aksmesh_release" "dgraph" {
  name             = "dgraph"
  namespace        = "dgraph"
  create_namespace = true
  manifests        = [file("${path.module}/../../dgraph/manifests/dgraph.yaml")]
  mesh             = module.linkerd.mesh
}
