# By <namespace>/<tag>, be it made by this provider or by istioctl.
terraform import aksmesh_istio_revision_tag.prod istio-system/prod
