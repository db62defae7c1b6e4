# By <namespace>/<name>.
terraform import aksmesh_release.dgraph dgraph/dgraph
