# By the namespace of the control plane, be it of Helm or of `linkerd install`.
terraform import aksmesh_linkerd.this linkerd
