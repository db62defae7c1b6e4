# By the namespace of the extension.
terraform import aksmesh_linkerd_extension.viz linkerd-viz
