// Package survey says what a cluster is, as meshes see it: from what Azure Resource
// Manager says of it, from what its API server says of itself, or from both, and
// what of it somebody who brings a mesh has to know. It changes nothing.
package survey

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/engine"
)

// Azure is asked what Azure Resource Manager knows of the cluster.
type Azure interface {
	Cluster(ctx context.Context) (*aks.ManagedCluster, error)
	// Registries are those that the cluster's nodes may pull from.
	Registries(ctx context.Context, cluster *aks.ManagedCluster) ([]aks.AttachedRegistry, error)
	// Subnet are the blocks of addresses of a subnet, by its resource ID.
	Subnet(ctx context.Context, id string) ([]netip.Prefix, error)
}

// Sources are who is asked; one of both may be nil.
type Sources struct {
	Azure  Azure
	Inside *kube.Cluster
	// Unasked is why Azure is nil, for [Facts.Unseen].
	Unasked string
	// Explain says what an error means, for [Facts.Unseen].
	Explain func(error) string
	Now     time.Time
}

// The sources of facts.
const (
	FromARM     = "arm"
	FromCluster = "cluster"
	FromBoth    = "arm+cluster"
)

// Facts are what is known of a cluster. A nil or empty one is not known, unless the
// cluster is such that there is none; [Facts.Unseen] tells which could not be seen.
type Facts struct {
	Source                         string
	ID, Name, Location             string
	SKU, Tier                      string
	PowerState, ProvisioningState  string
	AKS                            *bool
	KubernetesVersion              string // "1.34.2"
	Network                        Network
	OIDCIssuer                     string // URL
	WorkloadIdentity               *bool
	Private, VNetIntegration       *bool
	AuthorizedIPRanges             []string
	IstioAddon                     *bool
	IstioRevisions                 []string // of the add-on: "asm-1-30"
	AppRouting, ApplicationNetwork *bool    // the Istio of App Routing, and Azure Kubernetes Application Network
	AzurePolicy, Safeguards        *bool
	HostedSystem                   *bool // whether AKS runs the system's nodes itself
	NodePools                      []NodePool
	Registries                     []aks.AttachedRegistry
	GatewayAPI                     *GatewayAPI
	Findings                       []Finding
	Unseen                         []Unseen

	look    look
	explain func(error) string
}

// Network is that of a cluster.
type Network struct {
	Plugin, PluginMode, Dataplane string   // as Azure names them: azure, overlay, cilium
	Policy                        string   // as Azure names it: none, azure, calico, cilium
	PodCIDRs, ServiceCIDRs        []string // of a flat network, the subnets of the pods
	// Uncovered are those of them, or of the addresses that are in use, that Linkerd
	// does not take for the cluster's by default; nil if they are not known.
	Uncovered []string
	// Covered tells whether there is none of those.
	Covered *bool
	// SharedSubnet is whether nodes and pods have addresses of the same subnet, and
	// SharedBecause by what that is known, or why it is not.
	SharedSubnet  *bool
	SharedBecause string
	// Engine enforces NetworkPolicies.
	Engine engine.Result
}

// NodePool is a group of nodes that are alike.
type NodePool struct {
	Name, Mode            string // mode: System or User
	OS, OSSKU             string // Linux or Windows; Ubuntu, AzureLinux, Windows2022 …
	VMSize, Version       string
	Count                 int
	SubnetID, PodSubnetID string
	Taints                []string // key=value:effect
}

// GatewayAPI is what there is of the Gateway API.
type GatewayAPI struct {
	Installed bool
	Bundle    string // version of the bundle: "1.4.1"
	Channel   string // standard or experimental
	// Owner looks after the CRDs: "managed by AKS", "of Helm release a/b". Managed is
	// whether that is AKS.
	Owner   string
	Managed bool
}

// Unseen is a fact that could not be seen.
type Unseen struct{ Subject, Why string }

// look is what is seen on the way, and is judged in the end.
type look struct {
	addresses  []netip.Prefix // of pods and services in use
	describes  *aks.ManagedCluster
	webhooks   error // why none is admitted that changes pods
	redirected error // why no pod may have what init containers need
	namespaces []controlPlaneNamespace
	optedOut   []optOut
	enforced   bool // the enforcer has written into webhooks
	addons     map[string]bool
}

// Look asks the sources, and judges what they say. Azure may refuse, and the API
// server may be out of reach, if the other of both answers: what is missing then is
// in Unseen. The error is the one of the only source, or of a context that ends.
func Look(ctx context.Context, from Sources) (*Facts, error) {
	f := &Facts{explain: from.Explain}
	unasked := from.Unasked
	if from.Azure != nil {
		if err := f.askAzure(ctx, from.Azure); err != nil {
			if from.Inside == nil || ctx.Err() != nil {
				return nil, err
			}
			unasked = from.Explain(err)
		}
	}
	if from.Inside != nil {
		err := f.askCluster(ctx, from.Inside)
		switch {
		case err == nil && f.Source == FromARM:
			f.Source = FromBoth
		case err == nil:
			f.Source = FromCluster
		case ctx.Err() != nil, f.Source == "":
			return nil, err
		default:
			f.miss("the inside of the cluster", fmt.Errorf("the API server does not answer: %w", err))
		}
	}
	if f.Source == FromCluster && known(f.AKS) {
		for _, subject := range []string{"id", "location", "sku", "private_cluster", "authorized_ip_ranges", "node_pools.subnet_id", "registries"} {
			if subject != "private_cluster" || f.Private == nil {
				f.Unseen = append(f.Unseen, Unseen{subject, "only Azure Resource Manager tells, and has not been asked or has not answered: " + unasked})
			}
		}
	}
	if f.Source == FromARM && from.Inside == nil {
		f.miss("the inside of the cluster", errors.New("the API server was not asked: what is installed in the cluster, and what is in use of its networks, is not known"))
	}
	f.cover()
	f.judge(from.Now)
	return f, nil
}

// askAzure reads what Azure knows.
func (f *Facts) askAzure(ctx context.Context, azure Azure) error {
	described, err := azure.Cluster(ctx)
	if err != nil {
		return err
	}
	f.Source = FromARM
	f.describe(described)
	f.describeNetwork(ctx, azure)
	if f.Registries, err = azure.Registries(ctx, described); err != nil {
		f.miss("registries", err)
	}
	return ctx.Err()
}

// miss notes what could not be seen.
func (f *Facts) miss(subject string, why error) {
	f.Unseen = append(f.Unseen, Unseen{subject, f.explain(why)})
}

// allowed notes what may not be read, and passes on what else has gone wrong.
func (f *Facts) allowed(subject string, err error) error {
	if apierrors.IsForbidden(err) {
		f.miss(subject, err)
		return nil
	}
	return err
}

// cover finds out which networks Linkerd does not take for the cluster's.
func (f *Facts) cover() {
	networks := slices.Clone(f.look.addresses)
	for _, text := range slices.Concat(f.Network.PodCIDRs, f.Network.ServiceCIDRs) {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			networks = append(networks, prefix.Masked())
		}
	}
	if len(networks) == 0 {
		f.miss("network.linkerd_covered", errors.New("neither networks nor addresses of pods and services are known"))
		return
	}
	f.Network.Uncovered = []string{}
	for _, outside := range linkerd.OutsideDefaultNetworks(networks) {
		if text := outside.String(); !slices.Contains(f.Network.Uncovered, text) {
			f.Network.Uncovered = append(f.Network.Uncovered, text)
		}
	}
	slices.Sort(f.Network.Uncovered)
	f.Network.Covered = new(len(f.Network.Uncovered) == 0)
}

// known tells whether something is known to be so.
func known(fact *bool) bool { return fact != nil && *fact }
