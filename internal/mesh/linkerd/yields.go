package linkerd

import (
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Yields are the fields of the charts' objects that others than Helm set, the
// same in every version: AKS keeps webhooks away from its own namespaces, and
// this provider tells the API server of certificates that it renews. What Helm
// has on record of the latter is as old as its last change, and no change, nor
// going back from one, may put it over what is accepted now.
func Yields() kube.Yields {
	return append(kube.EnforcerYields(), bundleYields(controlPlaneServers(""))...)
}

// bundleYields are the bundles by which the API server accepts the certificates
// of servers.
func bundleYields(servers []server) kube.Yields {
	var yields kube.Yields
	for _, s := range servers {
		path := []string{"webhooks", "*", "clientConfig", "caBundle"}
		if s.registration.Kind == kube.APIService {
			path = []string{"spec", "caBundle"}
		}
		yields = append(yields, kube.Yield{Kind: s.registration.Kind, Name: s.registration.Name, Path: path, Owner: manager})
	}
	return yields
}
