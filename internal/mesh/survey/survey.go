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
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"

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
	// Uncovered are those of them that Linkerd does not take for the cluster's by
	// default; nil if they are not known, as when an address in use is of none of them
	// and not taken for the cluster's either.
	Uncovered []string
	// Covered tells whether all of them are, and the addresses that are in use.
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
	addresses  []address
	stray      string // an address that is of no network that is known, nor one of Linkerd's
	describes  *aks.ManagedCluster
	webhooks   error               // why none is admitted that changes pods
	redirected error               // why no pod may have what init containers need
	namespaces []*corev1.Namespace // with the label control-plane
	kept       []selector          // by which the enforcer keeps webhooks away
	nodesMade  bool                // AKS makes nodes of its own accord
	optedOut   []optOut
	enforced   bool // the enforcer has written into webhooks
	addons     map[string]bool
}

// An address is one that is in use, or several, of a network that is not known.
type address struct {
	netip.Prefix

	of string // whose it is: "Pod kube-system/coredns-1"
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
		case silent(err):
			f.miss("the inside of the cluster", fmt.Errorf("the API server does not answer: %w", err))
		default:
			f.miss("the inside of the cluster", fmt.Errorf("the API server does not even tell its version: %w", err))
		}
	}
	if f.Source == FromARM && from.Inside == nil {
		f.miss("the inside of the cluster", errors.New("the API server was not asked: what is installed in the cluster, and what is in use of its networks, is not known"))
	}
	f.missWithout(unasked)
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

// missWithout notes what only the source knows that has not answered.
func (f *Facts) missWithout(unasked string) {
	if !known(f.AKS) {
		return
	}
	none := func(subject string, unknown bool, why string) {
		if unknown && !slices.ContainsFunc(f.Unseen, func(u Unseen) bool { return u.Subject == subject }) {
			f.Unseen = append(f.Unseen, Unseen{subject, why})
		}
	}
	switch f.Source {
	case FromCluster:
		why := "only Azure Resource Manager tells, and has not been asked or has not answered: " + unasked
		for _, subject := range []string{
			"id", "name", "location", "sku", "tier", "power_state", "provisioning_state", "private_cluster", "authorized_ip_ranges", "managed_system_pools",
			"network.policy", "node_pools.subnet_id", "registries",
		} {
			none(subject, true, why)
		}
		none("network.dataplane", f.Network.Dataplane == "", why)
	case FromARM:
		const why = "only the API server tells, and has not been asked or has not answered"
		none("deployment_safeguards", f.Safeguards == nil, why)
		none("application_network", f.ApplicationNetwork == nil, why)
		none("gateway_api", f.GatewayAPI == nil, why)
	}
}

// silent tells whether an error is that nobody has answered, and not an answer.
func silent(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status) && !discovery.IsGroupDiscoveryFailedError(err)
}

// answered notes what the API server does not tell, whatever its reason, and passes
// on that nobody answers.
func (f *Facts) answered(subject string, err error) error {
	if err == nil || silent(err) {
		return err
	}
	f.miss(subject, err)
	return nil
}

// cover finds out which networks Linkerd does not take for the cluster's.
func (f *Facts) cover() {
	var networks []netip.Prefix
	for _, text := range slices.Concat(f.Network.PodCIDRs, f.Network.ServiceCIDRs) {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			networks = append(networks, prefix.Masked())
		}
	}
	if len(networks)+len(f.look.addresses) == 0 {
		f.miss("network.linkerd_covered", errors.New("neither networks nor addresses of pods and services are known"))
		return
	}
	f.Network.Uncovered = []string{}
	for _, outside := range linkerd.OutsideDefaultNetworks(networks) {
		f.Network.Uncovered = append(f.Network.Uncovered, outside.String())
	}
	for _, a := range f.look.addresses {
		// One that is in a network of the list leaves the list with it.
		if slices.Contains(linkerd.OutsideDefaultNetworks(append(slices.Clone(networks), a.Prefix)), a.Prefix) && !slices.Contains(networks, a.Prefix) {
			f.look.stray = strings.TrimSuffix(a.String(), "/32") + " of " + a.of
			f.miss("network.outside_linkerd_defaults", fmt.Errorf("%s is in no network that is known, and Linkerd does not take it for the cluster's by default", f.look.stray))
			f.Network.Uncovered = nil
			break
		}
	}
	f.Network.Covered = new(len(f.Network.Uncovered) == 0 && f.look.stray == "")
}

// known tells whether something is known to be so.
func known(fact *bool) bool { return fact != nil && *fact }
