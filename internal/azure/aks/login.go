package aks

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// serverScope is what tokens for API servers are for, in every cloud, where AKS
// manages the integration of Microsoft Entra ID.
const serverScope = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"

// login is what a kubeconfig of ARM says about getting in.
type login struct {
	host       string
	ca         []byte // PEM
	serverName string
	proxy      *url.URL // nil if none is named

	scope  string // of tokens of Microsoft Entra ID; "" if a client certificate is used
	tenant string // that issues them; "" is the account's

	certificate, key []byte // PEM
}

// errLegacy is a cluster whose login this process cannot do: a service principal
// was never able to, and client-go knows the plugin no more.
var errLegacy = errors.New("it still has the legacy integration of Azure AD (with client and server applications of its own), to which only people can log in; have AKS manage it (az aks update --enable-aad), or use the admin credentials (use_admin_credentials)")

// readLogin reads a kubeconfig. Errors never quote it.
func readLogin(kubeconfig []byte) (*login, error) {
	content, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, errors.New("they are not a kubeconfig")
	}
	current := content.Contexts[content.CurrentContext]
	if current == nil || content.Clusters[current.Cluster] == nil || content.AuthInfos[current.AuthInfo] == nil {
		return nil, errors.New("the kubeconfig has no current context with a cluster and a user")
	}
	server, user := content.Clusters[current.Cluster], content.AuthInfos[current.AuthInfo]
	address, err := url.Parse(server.Server)
	if err != nil || address.Scheme != "https" || address.Host == "" {
		return nil, fmt.Errorf("%q is not the https URL of an API server", server.Server)
	}
	found := &login{host: server.Server, ca: server.CertificateAuthorityData, serverName: server.TLSServerName}
	if server.ProxyURL != "" {
		if found.proxy, err = url.Parse(server.ProxyURL); err != nil {
			return nil, errors.New("the proxy-url in the kubeconfig is not a URL")
		}
	}
	switch {
	case user.Exec != nil:
		found.scope, found.tenant = serverScope, argument(user.Exec, "--tenant-id")
		if application := argument(user.Exec, "--server-id"); application != "" {
			found.scope = application + "/.default"
		}
	case user.AuthProvider != nil:
		return nil, errLegacy
	case len(user.ClientCertificateData) > 0 && len(user.ClientKeyData) > 0:
		found.certificate, found.key = user.ClientCertificateData, user.ClientKeyData
	default:
		return nil, errors.New("the kubeconfig has neither a client certificate nor the exec plugin of Microsoft Entra ID")
	}
	return found, nil
}

// argument is the value of a flag of an exec plugin, "" if it has none.
func argument(plugin *clientcmdapi.ExecConfig, flag string) string {
	for i, arg := range plugin.Args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value
		}
		if arg == flag && i+1 < len(plugin.Args) {
			return plugin.Args[i+1]
		}
	}
	return ""
}
