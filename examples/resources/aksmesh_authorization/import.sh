# By <namespace>/<name>.
terraform import aksmesh_authorization.alpha dgraph/alpha
