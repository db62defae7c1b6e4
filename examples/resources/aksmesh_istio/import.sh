# By the namespace of the control plane.
terraform import aksmesh_istio.this istio-system
