# By the namespace of the control plane.
terraform import aksmesh_linkerd.this linkerd
