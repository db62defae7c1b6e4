package aks

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

// explainLimit bounds the search for an explanation: who waits for it has an error
// to tell already.
const explainLimit = 15 * time.Second

// glanceLife is how long what ARM said of a cluster explains errors: many requests
// fail at once where one does, and ARM throttles.
const glanceLife = 30 * time.Second

// glance is what ARM said of a cluster when it was last asked.
type glance struct {
	at  time.Time
	err error // nil if it told
}

// Explain says what an error of ARM, of Microsoft Entra ID, or of the API server or
// the way to it means for this cluster and what to do about it, or "" if nothing
// more can be said. Where the error alone does not tell, ARM is asked how the
// cluster is.
func (a *Access) Explain(ctx context.Context, err error) string {
	ctx, cancel := context.WithTimeout(ctx, explainLimit)
	defer cancel()
	if refusal, ok := errors.AsType[*resourcemanager.Error](err); ok {
		if advice := Advice(err); advice != "" {
			return advice
		}
		if refusal.Status == http.StatusBadRequest || refusal.Status == http.StatusConflict {
			return a.explainState(ctx)
		}
		return ""
	}
	if _, ok := errors.AsType[*azure.LoginError](err); ok {
		return cmp.Or(a.explainLegacy(), azure.Advice(err))
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		switch answer := status.Status(); answer.Code {
		case http.StatusUnauthorized:
			return a.explainUnauthorized(ctx)
		case http.StatusForbidden:
			return a.explainForbidden(ctx, answer.Message)
		}
		return ""
	}
	if problem := problemOf(err); problem != reached {
		return a.explainUnreachable(ctx, problem, err)
	}
	return ""
}

// explainLegacy is about clusters that want tokens for an application of their own,
// "" for all others.
func (a *Access) explainLegacy() string {
	found := a.found.Load()
	if found == nil || found.scope == "" || found.scope == serverScope {
		return ""
	}
	return "The cluster wants another login: " + errLegacy.Error() + "."
}

func (a *Access) explainUnauthorized(ctx context.Context) string {
	if advice := a.explainLegacy(); advice != "" {
		return advice
	}
	cluster, err := a.Cluster(ctx)
	switch {
	case err != nil:
		return ""
	case a.options.Admin || cluster.Properties.AADProfile == nil:
		return "The API server does not accept the client certificate that Azure Resource Manager gave for it: the certificates of the cluster are being replaced, or were since. Run again when that is done."
	}
	return fmt.Sprintf("The API server does not accept the Microsoft Entra token of the account (%s), not even a new one. The cluster trusts the tenant %s: the account has to be known there, not only where the subscription is. Check the clock of this machine too.", a.account.Method(), cluster.Properties.AADProfile.TenantID)
}

// lacksPermission finds who may not do something in the words of the API server's
// authorizers; webhooks and policies that refuse an object use others.
var lacksPermission = regexp.MustCompile(`User "([^"]*)" cannot ((\S+) resource "[^"]+"|\S+ path "[^"]+")`)

func (a *Access) explainForbidden(ctx context.Context, message string) string {
	found := lacksPermission.FindStringSubmatch(message)
	if found == nil || a.options.Admin {
		return ""
	}
	cluster, err := a.Cluster(ctx)
	if err != nil || cluster.Properties.AADProfile == nil {
		return ""
	}
	who, what := found[1], strings.ReplaceAll(found[2], `"`, "")
	if cluster.Properties.AADProfile.EnableAzureRBAC {
		return fmt.Sprintf("The cluster has Azure RBAC decide, by which %s may not %s. Give it the role \"Azure Kubernetes Service RBAC Cluster Admin\" on the scope %s: a mesh needs rights in the whole cluster. A new assignment takes up to 5 minutes to take effect.", who, what, a.id.Path())
	}
	return fmt.Sprintf("The cluster knows %s by Microsoft Entra ID, but no RBAC of Kubernetes lets it %s. Put it into one of the cluster's admin groups (admin_group_object_ids of the cluster), or bind the ClusterRole cluster-admin to this object ID: a mesh needs rights in the whole cluster.", who, what)
}

// problem is how a connection failed.
type problem int

const (
	reached    problem = iota // the API server was, or who knows
	unresolved                // its name
	distrusted                // its certificate
	refused                   // by the host
	barred                    // by a proxy
	unanswered                // the connection
	slow                      // the request
)

// problemOf sorts errors of connections that did not come about. Those that broke
// later are over with the next request, and mean nothing about the cluster.
func problemOf(err error) problem {
	if name, ok := errors.AsType[*net.DNSError](err); ok && !name.IsTimeout {
		return unresolved
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return distrusted
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		switch {
		case operation.Op == "proxyconnect", operation.Op == "socks connect":
			return barred
		case operation.Op == "dial" && operation.Timeout():
			return unanswered
		case operation.Op == "dial":
			return refused
		}
	}
	if azure.RefusedByProxy(err) {
		return barred
	}
	if strings.Contains(err.Error(), "TLS handshake timeout") {
		return unanswered
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return slow
	}
	return reached
}

func (a *Access) explainUnreachable(ctx context.Context, how problem, err error) string {
	if how == distrusted {
		return "The certificate of whoever answers is not signed by the CA that Azure Resource Manager gives for the cluster. Something between here and the API server decrypts TLS, or the connection goes elsewhere: exempt the API server from that, or check proxy_url and tls_server_name."
	}
	if advice := a.explainState(ctx); advice != "" {
		return advice
	}
	var profile APIServerAccessProfile
	if seen := a.seen.Load(); seen != nil {
		profile = seen.Properties.APIServerAccessProfile
	}
	switch {
	case how == slow:
		return ""
	case a.proxy != nil:
		return "The way to the API server leads through proxy_url: check that the proxy runs, can be reached from here, and can resolve and reach the API server."
	case profile.EnablePrivateCluster:
		advice := "The cluster is private: its API server has an address of its virtual network only, and a name that only networks which its private DNS zone is linked to resolve. Run Terraform there, or give the proxy_url of a proxy that is there."
		if profile.EnablePrivateClusterPublicFQDN && !a.options.PublicFQDN {
			advice += " The cluster has a public name for its private address too (use_public_fqdn = true), which helps where there is a route but the DNS zone is not linked."
		}
		return advice
	case len(profile.AuthorizedIPRanges) > 0 && how != unresolved:
		return fmt.Sprintf("The API server lets in only the address ranges %s, and drops the connections of all others. Add the address by which this machine reaches the internet (authorized_ip_ranges of the cluster, or az aks update --api-server-authorized-ip-ranges), or run Terraform from one of them. A change takes up to 2 minutes.", strings.Join(profile.AuthorizedIPRanges, ", "))
	case how == barred:
		return azure.AdviceOnConnection(err)
	}
	return ""
}

// glance has the cluster in [Access.seen] be as it was a short while ago.
func (a *Access) glance(ctx context.Context) error {
	if last := a.glanced.Load(); last != nil && time.Since(last.at) < glanceLife {
		return last.err
	}
	_, err := a.look(ctx)
	return err
}

// explainState says why a cluster in the state that it is in now has no API server
// to talk to, "" if it should have.
func (a *Access) explainState(ctx context.Context) string {
	if err := a.glance(ctx); err != nil {
		if refusal, ok := errors.AsType[*resourcemanager.Error](err); ok && refusal.Status == http.StatusNotFound {
			return Advice(err)
		}
		return ""
	}
	seen := a.seen.Load()
	if seen.Properties.PowerState.Code == "Stopped" {
		return fmt.Sprintf("The cluster is stopped. Start it (az aks start --subscription %s --resource-group %s --name %s) and run again.", a.id.SubscriptionID, a.id.ResourceGroup, a.id.Name)
	}
	switch state := seen.Properties.ProvisioningState; state {
	case "", "Succeeded", "Canceled":
		return ""
	case "Failed":
		return "The last operation of Azure on the cluster failed (provisioning state Failed): see its activity log, and repair it, for example by az aks update without changes."
	default:
		return fmt.Sprintf("Azure is working on the cluster (provisioning state %s). Run again when it is done.", state)
	}
}
