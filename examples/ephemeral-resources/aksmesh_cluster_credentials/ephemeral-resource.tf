provider "aksmesh" {
  aks = {
    resource_group_name = "rg-mesh"
    name                = "prod"
  }
}

# The provider's own cluster.
ephemeral "aksmesh_cluster_credentials" "this" {}

# Another one that the same account has access to.
ephemeral "aksmesh_cluster_credentials" "west" {
  resource_group_name = "rg-mesh-west"
  name                = "prod-west"
}
