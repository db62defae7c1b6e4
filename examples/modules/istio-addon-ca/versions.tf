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
