# A namespace by <mesh>/<namespace>, a workload by <mesh>/<namespace>/<kind>/<name>.
# The mode and the settings are read from its labels and annotations.
terraform import aksmesh_injection.dgraph linkerd/dgraph
terraform import aksmesh_injection.client istio/pydgraph-client/Deployment/pydgraph-client
