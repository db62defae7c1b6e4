# By <namespace of the ServiceProfile>/<its name>.
terraform import aksmesh_service_profile.web emojivoto/web-svc.emojivoto.svc.cluster.local
