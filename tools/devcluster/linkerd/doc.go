// Package linkerd stands in for Linkerd in the embedded cluster: the charts
// that install it and the controllers whose answers decide whether a mesh
// works. The charts render the objects of the real ones under the same names
// from the same values, and the controllers decide as the real ones do, but no
// proxy ever runs. It is written from what is known of Linkerd's behaviour, so
// that everything can be tried where its charts and images cannot be had. Of the
// extensions there is what the API server asks: viz's aggregated API, which lists
// what can be tapped but taps nothing, and its webhook.
package linkerd

import (
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	// The label that tells the pods of the control plane apart, and its values.
	componentLabel         = "linkerd.io/control-plane-component"
	identityComponent      = "identity"
	destinationComponent   = "destination"
	proxyInjectorComponent = "proxy-injector"
)

// Programs are what the pods of Linkerd's control plane run in the embedded
// cluster: the identity controller, the proxy injector and the two validators.
// The others are of the extensions.
func Programs() []program.Program {
	return []program.Program{
		identity{lag: podenv.MountLag},
		injector{lag: podenv.MountLag},
		destination{lag: podenv.MountLag},
		tap{lag: podenv.MountLag},
		tapInjector{lag: podenv.MountLag},
		jaegerInjector{lag: podenv.MountLag},
		namespaceMetadata{},
	}
}
