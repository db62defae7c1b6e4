# By <mesh>/<namespace> of the control plane.
terraform import aksmesh_issuer_request.linkerd linkerd/linkerd
