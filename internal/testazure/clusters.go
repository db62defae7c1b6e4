package testazure

// Azure Kubernetes Service: https://learn.microsoft.com/rest/api/aks/managed-clusters
// by the API version 2026-05-01, its log in by Microsoft Entra ID
// https://learn.microsoft.com/azure/aks/kubelogin-authentication and
// https://learn.microsoft.com/azure/aks/manage-azure-rbac.

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/google/uuid"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	clusterType    = "Microsoft.ContainerService/managedClusters"
	clusterSuffix  = ".westeurope.azmk8s.io"
	clusterVersion = "1.35.2"
)

// ClusterData is the right, of Cluster.Forbid, to all that is in the cluster.
const ClusterData = clusterType + "/*"

// ClusterOptions say what cluster is made. The zero value is one with Microsoft
// Entra ID and Azure RBAC, without anything behind its API server.
type ClusterOptions struct {
	SubscriptionID, ResourceGroup, Name string // made up if empty

	// Properties and SKU are merged into those that a cluster has by default; what
	// is nil is taken away.
	Properties, SKU map[string]any

	// API answers behind the API server that clients see, to those whom it lets
	// in: see Forward. By default it knows its version alone.
	API http.Handler
}

// Cluster is an AKS cluster.
type Cluster struct {
	resource

	// ObjectID is that of the identity by which its nodes pull images.
	ObjectID string

	api    http.Handler
	host   string
	public string // also leads to the API server of a private cluster

	// with azure.mu
	authority  *authority
	properties map[string]any
	sku        map[string]any
}

// Forward passes requests on to an API server with the credentials of config,
// instead of those that came.
func Forward(config *rest.Config) (http.Handler, error) {
	target, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // Watches must not wait in a buffer.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Authorization")
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			// A client sees a broken connection behind as a broken connection.
			panic(http.ErrAbortHandler)
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}, nil
}

// AddCluster makes a cluster.
func (a *Azure) AddCluster(o ClusterOptions) (*Cluster, error) {
	c := &Cluster{
		resource: resource{SubscriptionID: o.SubscriptionID, ResourceGroup: o.ResourceGroup, Name: o.Name, kind: clusterType},
		ObjectID: uuid.NewString(), api: o.API, sku: map[string]any{"name": "Base", "tier": "Standard"},
	}
	if c.api == nil {
		c.api = http.HandlerFunc(answerVersion)
	}
	a.place(&c.resource, "cluster-")
	hash := make([]byte, 4)
	_, _ = rand.Read(hash) // It never fails.
	label := c.Name + "-" + hex.EncodeToString(hash)
	c.host = label + ".hcp" + clusterSuffix
	c.properties = c.defaults()
	if err := c.Patch(o.Properties); err != nil {
		return nil, err
	}
	sku, err := merged(c.sku, o.SKU)
	if err != nil {
		return nil, err
	}
	c.sku = sku
	if access, ok := c.properties["apiServerAccessProfile"].(map[string]any); ok && access["enablePrivateCluster"] == true {
		c.public = c.host
		c.host = label + "." + uuid.NewString() + ".privatelink" + clusterSuffix
		c.properties["privateFQDN"] = c.host
		if access["enablePrivateClusterPublicFQDN"] != true {
			delete(c.properties, "fqdn")
			c.public = ""
		}
	}
	if c.authority, err = newAuthority("ca"); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clusters[strings.ToLower(c.ID())] = c
	return c, nil
}

// defaults are the properties of a cluster with Azure CNI Overlay and Cilium.
func (c *Cluster) defaults() map[string]any {
	return map[string]any{
		"provisioningState": "Succeeded", "powerState": map[string]any{"code": "Running"},
		"kubernetesVersion": "1.35", "currentKubernetesVersion": clusterVersion,
		"dnsPrefix": c.Name, "fqdn": c.host, "azurePortalFQDN": strings.Replace(c.host, ".hcp.", ".portal.hcp.", 1),
		"nodeResourceGroup": "MC_" + c.ResourceGroup + "_" + c.Name + "_westeurope", "enableRBAC": true, "disableLocalAccounts": false,
		"supportPlan": "KubernetesOfficial", "maxAgentPools": 100,
		"aadProfile": map[string]any{"managed": true, "enableAzureRBAC": true, "adminGroupObjectIDs": nil, "tenantID": c.azure.home.ID},
		"networkProfile": map[string]any{
			"networkPlugin": "azure", "networkPluginMode": "overlay", "networkPolicy": "cilium", "networkDataplane": "cilium",
			"loadBalancerSku": "standard", "podCidr": "10.244.0.0/16", "podCidrs": []any{"10.244.0.0/16"},
			"serviceCidr": "10.0.0.0/16", "serviceCidrs": []any{"10.0.0.0/16"}, "dnsServiceIP": "10.0.0.10",
			"outboundType": "loadBalancer", "ipFamilies": []any{"IPv4"},
		},
		"agentPoolProfiles": []any{map[string]any{
			"name": "system", "mode": "System", "count": 3, "vmSize": "Standard_D4ds_v5", "osType": "Linux", "osSKU": "Ubuntu",
			"type": "VirtualMachineScaleSets", "currentOrchestratorVersion": clusterVersion, "orchestratorVersion": "1.35",
			"provisioningState": "Succeeded", "powerState": map[string]any{"code": "Running"},
		}},
		"identityProfile": map[string]any{"kubeletidentity": map[string]any{
			"resourceId": "/subscriptions/" + c.SubscriptionID + "/resourcegroups/MC_" + c.ResourceGroup + "_" + c.Name + "_westeurope/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + c.Name + "-agentpool",
			"clientId":   uuid.NewString(), "objectId": c.ObjectID,
		}},
		"oidcIssuerProfile": map[string]any{"enabled": true, "issuerURL": "https://westeurope.oic.prod-aks.azure.com/" + c.azure.home.ID + "/" + uuid.NewString() + "/"},
		"securityProfile":   map[string]any{"workloadIdentity": map[string]any{"enabled": true}},
		"addonProfiles":     map[string]any{},
		"bootstrapProfile":  map[string]any{"artifactSource": "Direct"},
	}
}

// merged returns a JSON object with the changes of a merge patch, RFC 7396.
func merged(object, changes map[string]any) (map[string]any, error) {
	if changes == nil {
		return object, nil
	}
	before, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	patch, err := json.Marshal(changes)
	if err != nil {
		return nil, err
	}
	after, err := jsonpatch.MergePatch(before, patch)
	if err != nil {
		return nil, err
	}
	var result map[string]any
	return result, json.Unmarshal(after, &result)
}

// Patch merges changes into the properties; what is nil is taken away.
func (c *Cluster) Patch(changes map[string]any) error {
	c.azure.mu.Lock()
	defer c.azure.mu.Unlock()
	properties, err := merged(c.properties, changes)
	if err == nil {
		c.properties = properties
	}
	return err
}

// Host is that of the API server: of a private cluster, the private one.
func (c *Cluster) Host() string { return c.host }

// PublicHost is the public name of a private cluster, "" if it has none.
func (c *Cluster) PublicHost() string { return c.public }

// CA is the PEM certificate of the API server's authority.
func (c *Cluster) CA() []byte {
	c.azure.mu.Lock()
	defer c.azure.mu.Unlock()
	return c.authority.PEM()
}

// Stop stops the cluster: its name does not resolve until Start.
func (c *Cluster) Stop() error {
	c.azure.Cut(c.host)
	return c.Patch(map[string]any{"powerState": map[string]any{"code": "Stopped"}})
}

// Start starts the cluster again.
func (c *Cluster) Start() error {
	c.azure.Mend(c.host)
	return c.Patch(map[string]any{"powerState": map[string]any{"code": "Running"}})
}

// Remake is what deleting the cluster and making it again under its name comes
// to: another authority, and all connections end.
func (c *Cluster) Remake() error {
	authority, err := newAuthority("ca")
	if err != nil {
		return err
	}
	c.azure.mu.Lock()
	c.authority = authority
	c.azure.mu.Unlock()
	c.azure.Cut(c.host)
	c.azure.Mend(c.host)
	return nil
}

// Delete deletes the cluster.
func (c *Cluster) Delete() {
	c.azure.mu.Lock()
	delete(c.azure.clusters, strings.ToLower(c.ID()))
	c.azure.mu.Unlock()
	c.azure.Cut(c.host)
}

// answersAt needs azure.mu.
func (c *Cluster) answersAt(host string) bool {
	return host == c.host || host != "" && host == c.public
}

// property returns what a path leads to among the properties, nil if nothing.
func (c *Cluster) property(path ...string) any {
	c.azure.mu.Lock()
	defer c.azure.mu.Unlock()
	var at any = c.properties
	for _, name := range path {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[name]
	}
	return at
}

// manage is the cluster as Resource Manager has it.
func (c *Cluster) manage(w http.ResponseWriter, r *http.Request, who caller, operation string) {
	switch {
	case operation == "" && r.Method == http.MethodGet:
		if c.permits(w, who, clusterType+"/read") {
			c.describe(w)
		}
	case strings.EqualFold(operation, "listClusterUserCredential") && r.Method == http.MethodPost:
		if c.permits(w, who, clusterType+"/listClusterUserCredential/action") {
			c.userCredential(w, r)
		}
	case strings.EqualFold(operation, "listClusterAdminCredential") && r.Method == http.MethodPost:
		if !c.permits(w, who, clusterType+"/listClusterAdminCredential/action") {
			return
		}
		if c.property("disableLocalAccounts") == true {
			refuse(w, http.StatusBadRequest, "BadRequest", "Getting static credential is not allowed because this cluster is set to disable local accounts.")
			return
		}
		if host := c.named(w, r); host != "" {
			c.answerKubeconfig(w, "clusterAdmin", host, c.staticUser)
		}
	default:
		refuse(w, http.StatusNotFound, "NotFound", "The requested operation does not exist.")
	}
}

func (c *Cluster) describe(w http.ResponseWriter) {
	c.azure.mu.Lock()
	properties, sku := maps.Clone(c.properties), maps.Clone(c.sku)
	c.azure.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"id": c.ID(), "name": c.Name, "type": clusterType, "location": "westeurope", "kind": "Base",
		"sku": sku, "properties": properties, "identity": map[string]any{"type": "SystemAssigned", "tenantId": c.azure.home.ID, "principalId": uuid.NewString()},
	})
}

// named returns the host that server-fqdn asks for, or refuses and returns "".
func (c *Cluster) named(w http.ResponseWriter, r *http.Request) string {
	access, _ := c.property("apiServerAccessProfile").(map[string]any)
	switch {
	case r.URL.Query().Get("server-fqdn") != "public" || access["enablePrivateCluster"] != true:
		return c.host
	case c.public == "":
		refuse(w, http.StatusBadRequest, "BadRequest", "Public FQDN is not enabled for the private cluster.")
	}
	return c.public
}

func (c *Cluster) userCredential(w http.ResponseWriter, r *http.Request) {
	host := c.named(w, r)
	if host == "" {
		return
	}
	switch format := r.URL.Query().Get("format"); {
	case c.property("aadProfile") == nil:
		if c.property("disableLocalAccounts") == true {
			refuse(w, http.StatusBadRequest, "BadRequest", "Getting static credential is not allowed because this cluster is set to disable local accounts.")
			return
		}
		c.answerKubeconfig(w, "clusterUser", host, c.staticUser)
	case format == "exec":
		c.answerKubeconfig(w, "clusterUser", host, c.execUser)
	case format == "" || format == "azure":
		c.answerKubeconfig(w, "clusterUser", host, c.pluginUser)
	default:
		refuse(w, http.StatusBadRequest, "InvalidParameter", "The value of parameter format is invalid.")
	}
}

// serverID is the application that tokens for the API server are for.
func (c *Cluster) serverID() string {
	if id, ok := c.property("aadProfile", "serverAppID").(string); ok && c.property("aadProfile", "managed") != true {
		return id
	}
	return clusterAudience
}

func (c *Cluster) tenantID() string {
	id, _ := c.property("aadProfile", "tenantID").(string)
	return id
}

func (c *Cluster) execUser() (*clientcmdapi.AuthInfo, error) {
	user := clientcmdapi.NewAuthInfo()
	user.Exec = &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1beta1", Command: "kubelogin",
		Args: []string{
			"get-token", "--environment", "AzurePublicCloud", "--server-id", c.serverID(),
			"--client-id", "80faf920-1908-4b52-b5ef-a8e7bedfc67a", "--tenant-id", c.tenantID(), "--login", "devicecode",
		},
		InstallHint: "kubelogin is not installed which is required to connect to AAD enabled cluster.",
	}
	return user, nil
}

func (c *Cluster) pluginUser() (*clientcmdapi.AuthInfo, error) {
	user := clientcmdapi.NewAuthInfo()
	user.AuthProvider = &clientcmdapi.AuthProviderConfig{Name: "azure", Config: map[string]string{
		"apiserver-id": c.serverID(), "client-id": "80faf920-1908-4b52-b5ef-a8e7bedfc67a", "config-mode": "1",
		"environment": "AzurePublicCloud", "tenant-id": c.tenantID(),
	}}
	return user, nil
}

func (c *Cluster) staticUser() (*clientcmdapi.AuthInfo, error) {
	c.azure.mu.Lock()
	authority := c.authority
	c.azure.mu.Unlock()
	pair, err := authority.client(pkix.Name{CommonName: "masterclient", Organization: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	user := clientcmdapi.NewAuthInfo()
	user.ClientCertificateData, user.ClientKeyData, err = pairPEM(pair)
	return user, err
}

// pairPEM writes a certificate with its key.
func pairPEM(pair tls.Certificate) (certificate, key []byte, err error) {
	private, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("not a key of ours")
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return certificatePEM(pair.Leaf), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func (c *Cluster) answerKubeconfig(w http.ResponseWriter, role, host string, user func() (*clientcmdapi.AuthInfo, error)) {
	info, err := user()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	name := role + "_" + c.ResourceGroup + "_" + c.Name
	config := clientcmdapi.NewConfig()
	config.Clusters[c.Name] = &clientcmdapi.Cluster{Server: "https://" + host + ":443", CertificateAuthorityData: c.CA()}
	config.AuthInfos[name] = info
	config.Contexts[c.Name] = &clientcmdapi.Context{Cluster: c.Name, AuthInfo: name}
	config.CurrentContext = c.Name
	content, err := clientcmd.Write(*config)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, map[string]any{"kubeconfigs": []any{
		map[string]any{"name": role, "value": base64.StdEncoding.EncodeToString(content)},
	}})
}

// serve is the API server.
func (c *Cluster) serve(w http.ResponseWriter, r *http.Request) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if c.property("disableLocalAccounts") == true {
			answerStatus(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
			return
		}
		c.api.ServeHTTP(w, r)
		return
	}
	who, err := c.azure.authenticate(bearer(r), c.serverID(), "spn:"+c.serverID())
	switch {
	case err != nil || who.tenant != c.tenantID():
		answerStatus(w, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "Unauthorized")
	case c.forbidsData():
		why := ""
		if c.property("aadProfile", "enableAzureRBAC") == true {
			why = ": User does not have access to the resource in Azure. Update role assignment to allow access."
		}
		answerStatus(w, http.StatusForbidden, metav1.StatusReasonForbidden, describeRequest(who.object, r)+why)
	default:
		c.api.ServeHTTP(w, r)
	}
}

func (c *Cluster) forbidsData() bool {
	c.azure.mu.Lock()
	defer c.azure.mu.Unlock()
	for _, action := range c.forbidden {
		if strings.EqualFold(action, ClusterData) {
			return true
		}
	}
	return false
}

// describeRequest words what a user may not do as an API server does, for all
// namespaces alike.
func describeRequest(user string, r *http.Request) string {
	verbs := map[string]string{http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	group := ""
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		group, parts = parts[1], parts[3:]
	default:
		return fmt.Sprintf("forbidden: User %q cannot %s path %q", user, verbs[r.Method], r.URL.Path)
	}
	scope := "at the cluster scope"
	if parts[0] == "namespaces" && len(parts) > 2 {
		scope = fmt.Sprintf("in the namespace %q", parts[1])
		parts = parts[2:]
	}
	verb := verbs[r.Method]
	subject := parts[0]
	if len(parts) > 1 {
		subject += fmt.Sprintf(" %q", parts[1])
	} else if verb == "get" {
		verb = "list"
	}
	if group != "" {
		subject = strings.Replace(subject, parts[0], parts[0]+"."+group, 1)
	}
	return fmt.Sprintf("%s is forbidden: User %q cannot %s resource %q in API group %q %s", subject, user, verb, parts[0], group, scope)
}

func answerStatus(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	answer(w, code, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message, //nolint:gosec // A status code.
	})
}

// answerVersion is an API server without any API.
func answerVersion(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/version" {
		answerStatus(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		return
	}
	answer(w, http.StatusOK, map[string]any{"major": "1", "minor": "35", "gitVersion": "v" + clusterVersion, "goVersion": "go1.26", "platform": "linux/amd64", "compiler": "gc"})
}
