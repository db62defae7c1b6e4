package provider

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// TestAccProvider_unknown has a cluster whose address comes with the apply, as
// it does when the same apply creates the cluster.
func TestAccProvider_unknown(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	linkerd, istio := newEverything(t, cluster, "linkerd"), newEverything(t, cluster, "istio")
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	// The resources of the second mesh are those of the first by another name.
	second := regexp.MustCompile(`"this"|\.this\.`).ReplaceAllStringFunc(istio.config(), func(this string) string {
		return strings.ReplaceAll(this, "this", "istio")
	})
	config := fmt.Sprintf(`
	resource "terraform_data" "cluster" {
	  input = %q
	}
	provider "aksmesh" {
	  kubernetes = { host = terraform_data.cluster.output, cluster_ca_certificate = %q }
	}
	%s`, proxy.URL(), proxy.CertificateAuthority(), linkerd.config()+second)
	w := newWorkspace(t, config)

	w.succeed("plan", "-out=planned", "-no-color")
	if proxy.Requests() != 0 {
		t.Errorf("a plan without a cluster has made %d requests", proxy.Requests())
	}
	w.succeed("apply", "-no-color", "planned")
	if made := len(w.attributes()); made != 16 {
		t.Errorf("one apply has made %d resources, want 16", made)
	}
	w.expectNoChanges()

	// A new address in the same configuration: what the state knows stays.
	w.write(strings.Replace(config, "input = ", "triggers_replace = 1\n  input = ", 1))
	proxy.Set(testcluster.FaultNone)
	if got := w.run("plan", "-detailed-exitcode", "-no-color"); got.code != 2 || !strings.Contains(got.output, "1 to add, 0 to change, 1 to destroy") {
		t.Errorf("a plan that replaces only the cluster's address: exit code %d\n%s", got.code, got.output)
	}
	if proxy.Requests() != 0 {
		t.Errorf("a plan without a cluster has made %d requests", proxy.Requests())
	}
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// countingAPI is a server that only counts how often it is asked.
func countingAPI(t *testing.T) (address string, requests func() int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections := make(chan struct{}, 1000)
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections <- struct{}{}
			}
		},
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String(), func() int { return len(connections) }
}

const anchorOnly = `resource "aksmesh_trust_anchor" "this" {}`

func TestAccProvider_noConfiguration(t *testing.T) {
	t.Parallel()
	address, requests := countingAPI(t)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	// All that others fall back to is there: a pod's API, a kubeconfig in the
	// home directory, kubectl's variable.
	w := newWorkspace(t, anchorOnly, "KUBERNETES_SERVICE_HOST="+host, "KUBERNETES_SERVICE_PORT="+port)
	kubeconfig := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"http://%s"}}],"contexts":[{"name":"c","context":{"cluster":"c","user":""}}]}`, address)
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".kube"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, ".kube", "config")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "HOME="+home, "KUBECONFIG="+path)

	for _, command := range []string{"plan", "apply"} {
		got := w.run(command, "-no-color")
		if got.code != 1 {
			t.Errorf("%s: exit code %d, want 1", command, got.code)
		}
		words := strings.Join(strings.FieldsFunc(got.output, func(r rune) bool { return strings.ContainsRune(" \n│╷╵", r) }), " ")
		for _, want := range []string{
			"no way to reach a cluster is given", "config_path", "host", "in_cluster", "KUBE_CONFIG_PATH", "KUBE_HOST", "nothing is set",
		} {
			if !strings.Contains(strings.ToLower(words), strings.ToLower(want)) {
				t.Errorf("%s does not say %q:\n%s", command, want, got.output)
			}
		}
	}
	if requests() != 0 {
		t.Errorf("a cluster that nobody configured was dialled %d times", requests())
	}
	w.succeed("validate", "-no-color")
}

func TestAccProvider_environment(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	config := fmt.Sprintf(`resource "aksmesh_trust_anchor" "this" { namespace = %q }`, cluster.Namespace(t))
	w := newWorkspace(t, config, "KUBE_HOST="+proxy.URL(), "KUBE_CLUSTER_CA_CERT_DATA="+string(proxy.CertificateAuthority()), "KUBE_TOKEN=of-the-environment")
	w.apply()
	if proxy.Requests() == 0 {
		t.Error("KUBE_HOST was not asked")
	}
	// The block stands before the environment.
	w.write(providerConfig(cluster.Kubeconfig(), config))
	proxy.Set(testcluster.FaultNone)
	w.expectNoChanges()
	if proxy.Requests() != 0 {
		t.Errorf("KUBE_HOST was asked %d times beside a config_path", proxy.Requests())
	}
	w.env = append(w.env, "KUBE_HOST=", "KUBE_CLUSTER_CA_CERT_DATA=", "KUBE_TOKEN=", "KUBE_CONFIG_PATH="+cluster.Kubeconfig())
	w.write(config)
	w.expectNoChanges()
	w.succeed("destroy", "-auto-approve", "-no-color")
}

func TestAccProvider_ambiguous(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		env      []string
		says     []string
	}{
		"two ways":         {`config_path = "/etc/a", host = "https://b"`, nil, []string{"more than one way to reach a cluster", "config_path", "host"}},
		"two credentials":  {`host = "https://b", token = "t", username = "u", password = "p"`, nil, []string{"more than one kind of credential", "token", "username", "password"}},
		"half a pair":      {`host = "https://b", client_certificate = "c"`, nil, []string{"client_certificate", "only one is set"}},
		"paths twice":      {`config_path = "/etc/a", config_paths = ["/etc/b"]`, nil, []string{"config_path", "config_paths"}},
		"from variables":   {``, []string{"KUBE_HOST=https://b", "KUBE_CONFIG_PATH=/etc/a"}, []string{"more than one way to reach a cluster", "KUBE_CONFIG_PATH", "KUBE_HOST"}},
		"missing file":     {`config_path = "/nonexistent/config"`, nil, []string{"/nonexistent/config", "no such file"}},
		"missing context":  {`config_content = "{current-context: a}"`, nil, []string{"has no context", "contexts: none"}},
		"not a kubeconfig": {`config_content = "secret: ["`, nil, []string{"not the content of a kubeconfig file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorkspace(t, fmt.Sprintf("provider \"aksmesh\" {\n kubernetes = { %s }\n}\n%s", test.settings, anchorOnly), test.env...)
			got := w.run("plan", "-json")
			failures := got.failures()
			if got.code != 1 || len(failures) != 1 {
				t.Fatalf("want one error, got exit code %d and %+v", got.code, failures)
			}
			for _, want := range test.says {
				if !strings.Contains(strings.ToLower(failures[0].Summary+failures[0].Detail), strings.ToLower(want)) {
					t.Errorf("the error does not say %q: %+v", want, failures[0])
				}
			}
		})
	}
}

// TestAccProvider_secrets looks for keys and credentials wherever they must not
// be: in the most talkative logs, in the state and in the plan.
func TestAccProvider_secrets(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	client, err := pki.NewAnchor(pki.AuthorityOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	clientKey, err := client.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	const token = "token-that-nobody-may-see"
	e := newEverything(t, cluster, "linkerd")
	log := filepath.Join(t.TempDir(), "log")
	w := newWorkspace(t, fmt.Sprintf(`
	variable "token" {
	  type      = string
	  ephemeral = true
	}
	variable "key" {
	  type      = string
	  ephemeral = true
	}
	provider "aksmesh" {
	  kubernetes = { host = %[1]q, cluster_ca_certificate = %[2]q, token = var.token }
	}
	provider "aksmesh" {
	  alias      = "by_certificate"
	  kubernetes = { host = %[1]q, cluster_ca_certificate = %[2]q, client_certificate = %[3]q, client_key = var.key }
	}
	resource "aksmesh_trust_anchor" "second" {
	  provider = aksmesh.by_certificate
	  name     = "second"
	}
	%[4]s`, proxy.URL(), proxy.CertificateAuthority(), client.CertificatePEM(), e.config()),
		"TF_LOG=TRACE", "TF_LOG_PATH="+log, "TF_VAR_token="+token, "TF_VAR_key="+string(clientKey))
	w.apply()
	w.succeed("plan", "-out=planned", "-no-color")
	plan := w.succeed("show", "-json", "planned").output

	secrets := map[string][]string{"the token": {token}, "the client's key": keyMaterial(t, clientKey)}
	for _, namespace := range []string{"aksmesh-system", "linkerd"} {
		found, err := cluster.Client().CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "type=kubernetes.io/tls"})
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range found.Items {
			secrets["the key of Secret "+namespace+"/"+secret.Name] = keyMaterial(t, secret.Data["tls.key"])
		}
	}
	if len(secrets) != 2+2+1+3 {
		t.Errorf("looking for %d secrets, want those of the provider, two anchors, an issuer and three webhooks", len(secrets))
	}
	logged, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(logged), "provider.terraform-provider-aksmesh") {
		t.Error("the provider has logged nothing")
	}
	for place, text := range map[string]string{"the log": string(logged), "the state": string(w.stateBytes()), "the plan": plan} {
		for what, forms := range secrets {
			for _, form := range forms {
				if strings.Contains(text, form) {
					t.Errorf("%s contains %s", place, what)
				}
			}
		}
	}
	w.succeed("destroy", "-auto-approve", "-no-color")
}

// keyMaterial returns pieces of a PEM key by which it is found in any text,
// also as a value in base64.
func keyMaterial(t *testing.T, key []byte) []string {
	t.Helper()
	block, _ := pem.Decode(key)
	if block == nil {
		t.Fatal("not a PEM key")
	}
	// The middle line of the PEM form has nothing in common with other keys.
	lines := strings.Split(strings.TrimSpace(string(key)), "\n")
	if len(lines) < 4 {
		t.Fatalf("a key of %d lines", len(lines))
	}
	encoded := base64.StdEncoding.EncodeToString(key)
	return []string{lines[2], encoded[len(encoded)/2 : len(encoded)/2+40]}
}

// TestAccProvider_aliases has two clusters in one run.
func TestAccProvider_aliases(t *testing.T) {
	t.Parallel()
	clusters := map[string]*testcluster.Cluster{"one": plainCluster.Cluster(t), "two": meshCluster.Cluster(t)}
	config, namespaces := "", map[string]string{}
	for name, cluster := range clusters {
		namespaces[name] = cluster.Namespace(t)
		config += fmt.Sprintf(`
		provider "aksmesh" {
		  alias      = %[1]q
		  kubernetes = { config_path = %[2]q }
		}
		resource "aksmesh_trust_anchor" %[1]q {
		  provider  = aksmesh.%[1]s
		  name      = %[1]q
		  namespace = %[3]q
		}
		resource "aksmesh_network_policy" %[1]q {
		  provider  = aksmesh.%[1]s
		  namespace    = %[3]q
		  pod_selector = {}
		  ports        = [8080]
		  mesh         = { istio = {} }
		}`, name, cluster.Kubeconfig(), namespaces[name])
	}
	w := newWorkspace(t, config)
	w.apply()
	for name, cluster := range clusters {
		secrets, err := cluster.Client().CoreV1().Secrets(namespaces[name]).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(secrets.Items) != 1 || secrets.Items[0].Name != "aksmesh-trust-anchor-"+name {
			t.Errorf("cluster %s: want the one Secret of its own anchor, got %d, %v", name, len(secrets.Items), err)
		}
		policies, err := cluster.Client().NetworkingV1().NetworkPolicies(namespaces[name]).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(policies.Items) != 1 {
			t.Errorf("cluster %s: want one policy, got %d, %v", name, len(policies.Items), err)
		}
	}
	w.expectNoChanges()
	w.succeed("destroy", "-auto-approve", "-no-color")
}
