# By the name of the addon, if this provider has deployed it.
terraform import aksmesh_istio_addon.jaeger jaeger
