# By the namespace of the control plane, whether Helm or istioctl has installed it.
terraform import aksmesh_istio.this istio-system

# With a revision.
terraform import aksmesh_istio.next istio-system/1-32
