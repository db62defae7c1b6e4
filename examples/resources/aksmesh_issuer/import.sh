# By <mesh>/<namespace>.
terraform import aksmesh_issuer.linkerd linkerd/linkerd
