terraform {
  required_version = ">= 1.11"

  required_providers {
    aksmesh = {
      source = "aksmesh/aksmesh"
    }
  }
}
