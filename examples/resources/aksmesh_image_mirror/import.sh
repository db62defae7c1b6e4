# By the registry and the path below which the images are. The apply that follows
# finds those that are there, and sends none of them again.
terraform import aksmesh_image_mirror.linkerd example.azurecr.io/linkerd
