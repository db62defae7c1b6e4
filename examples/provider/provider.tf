terraform {
  required_version = ">= 1.11"

  required_providers {
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}

provider "aksmesh" {
  kubernetes = {
    config_path = "~/.kube/config"
  }
}
