provider "aksmesh" {
  aks = {
    resource_group_name = "rg-mesh"
    name                = "prod"
  }
}

ephemeral "aksmesh_cluster_credentials" "this" {}

# For what other providers manage in the same cluster, without kubelogin.
provider "kubernetes" {
  host                   = ephemeral.aksmesh_cluster_credentials.this.host
  cluster_ca_certificate = ephemeral.aksmesh_cluster_credentials.this.cluster_ca_certificate
  token                  = ephemeral.aksmesh_cluster_credentials.this.token
}

provider "helm" {
  kubernetes = {
    host                   = ephemeral.aksmesh_cluster_credentials.this.host
    cluster_ca_certificate = ephemeral.aksmesh_cluster_credentials.this.cluster_ca_certificate
    token                  = ephemeral.aksmesh_cluster_credentials.this.token
  }
}
