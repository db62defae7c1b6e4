terraform {
  required_version = ">= 1.11"

  required_providers {
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}

# An AKS cluster. Credentials come from ARM_* variables, as those of azurerm do, or from Azure CLI.
provider "aksmesh" {
  aks = {
    resource_group_name = "rg-mesh"
    name                = "prod"
  }
}

# Any cluster.
provider "aksmesh" {
  alias = "local"
  kubernetes = {
    config_path = "~/.kube/config"
  }
}
