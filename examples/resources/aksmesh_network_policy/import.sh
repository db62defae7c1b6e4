# By <namespace>/<name>.
terraform import aksmesh_network_policy.alpha dgraph/alpha-mesh-only
