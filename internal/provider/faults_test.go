package provider

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// everything is a configuration with one resource of each type that concerns a
// mesh, for a namespace with a Deployment `web`.
type everything struct {
	mesh      string // linkerd or istio
	version   string // of the mesh; empty is the newest
	namespace string
	charts    testcluster.ChartLocations
	// What leads from one resource to another, as expressions.
	anchorID, bundle, issuerID, controlPlane, follows string
}

// newEverything is everything whose resources refer to one another, as users
// write it, in a namespace of its own.
func newEverything(t testing.TB, cluster *testcluster.Cluster, mesh string) everything {
	t.Helper()
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	return everything{
		mesh: mesh, namespace: namespace, charts: cluster.Charts(),
		anchorID: "aksmesh_trust_anchor.this.id", bundle: "aksmesh_trust_anchor.this.bundle_pem",
		issuerID: "aksmesh_issuer.this.id", controlPlane: "aksmesh_" + mesh + ".this.id",
		follows: "aksmesh_" + mesh + ".this.version",
	}
}

func (e everything) config() string {
	controlPlane := fmt.Sprintf(`
	resource "aksmesh_linkerd" "this" {
	  version    = %q
	  repository = %q
	  issuer_id  = %s
	}
	resource "aksmesh_service_profile" "this" {
	  namespace               = %q
	  service                 = "web"
	  control_plane_namespace = %s
	  routes                  = [{ name = "all", path_regex = ".*" }]
	}`, cmp.Or(e.version, linkerdNew), e.charts.Repository, e.issuerID, e.namespace, e.controlPlane)
	policy := fmt.Sprintf("{ linkerd = { control_plane_namespace = %s } }", e.controlPlane)
	if e.mesh == "istio" {
		controlPlane = fmt.Sprintf(`
		resource "aksmesh_istio" "this" {
		  version    = %q
		  repository = %q
		  issuer_id  = %s
		  profile    = "minimal"
		}`, cmp.Or(e.version, istioNew), e.charts.Repository, e.issuerID)
		policy = "{ istio = {} }"
	}
	authority := strings.Replace(policy, "{ istio = {} }", fmt.Sprintf("{ istio = { control_plane_namespace = %s } }", e.controlPlane), 1)
	return controlPlane + fmt.Sprintf(`
	resource "aksmesh_trust_anchor" "this" {
	  name = %[1]q
	}
	resource "aksmesh_issuer" "this" {
	  trust_anchor_id  = %[2]s
	  trust_bundle_pem = %[7]s
	  mesh             = %[1]q
	}
	resource "aksmesh_injection" "this" {
	  namespace = %[3]q
	  mesh      = { %[1]s = { control_plane_namespace = %[4]s } }
	  follows   = [%[6]s]
	}
	resource "aksmesh_release" "this" {
	  name      = "app"
	  namespace = %[3]q
	  manifests = ["apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\n"]
	}
	resource "aksmesh_network_policy" "this" {
	  namespace    = %[3]q
	  pod_selector = { app = "web" }
	  ports        = [8080]
	  mesh         = %[5]s
	}
	resource "aksmesh_authorization" "this" {
	  namespace    = %[3]q
	  name         = "web"
	  pod_selector = { app = "web" }
	  ports        = [9090]
	  allow        = [{ service_accounts = ["%[3]s/web"] }]
	  mesh         = %[8]s
	}
	`, e.mesh, e.anchorID, e.namespace, e.controlPlane, policy, e.follows, e.bundle, authority)
}

// apart is the same configuration with the values of a state in place of the
// references, so that no resource waits for another or is spared by the failure
// of another.
func (e everything) apart(w *workspace) everything {
	w.t.Helper()
	e.bundle = fmt.Sprintf("%q", w.attribute("aksmesh_trust_anchor.this", "bundle_pem"))
	e.anchorID = fmt.Sprintf("%q", w.attribute("aksmesh_trust_anchor.this", "id"))
	e.issuerID = fmt.Sprintf("%q", w.attribute("aksmesh_issuer.this", "id"))
	e.controlPlane = fmt.Sprintf("%q", w.attribute("aksmesh_"+e.mesh+".this", "id"))
	e.follows = fmt.Sprintf("%q", w.attribute("aksmesh_"+e.mesh+".this", "version"))
	return e
}

// withoutDependencies is a state whose resources do not depend on one another.
func withoutDependencies(t testing.TB, state []byte) string {
	t.Helper()
	var content map[string]any
	if err := json.Unmarshal(state, &content); err != nil {
		t.Fatal(err)
	}
	resources, _ := content["resources"].([]any)
	for _, r := range resources {
		r, _ := r.(map[string]any)
		instances, _ := r["instances"].([]any)
		for _, instance := range instances {
			if instance, ok := instance.(map[string]any); ok {
				delete(instance, "dependencies")
			}
		}
	}
	changed, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return string(changed)
}

// faultWords are what an error has to say of each fault.
func faultWords() map[testcluster.Fault]*regexp.Regexp {
	return map[testcluster.Fault]*regexp.Regexp{
		testcluster.FaultUnauthorized:    regexp.MustCompile(`does not accept the credentials`),
		testcluster.FaultForbidden:       regexp.MustCompile(`not allowed to do this`),
		testcluster.FaultTooManyRequests: regexp.MustCompile(`throttling`),
		testcluster.FaultServerError:     regexp.MustCompile(`problem of its own`),
		testcluster.FaultReset:           regexp.MustCompile(`connection was cut off`),
		testcluster.FaultHang:            regexp.MustCompile(`no answer within 2s`),
	}
}

// objectWords are what an error has to say of the object that each resource
// looks at or changes first.
func objectWords(e everything) map[string]*regexp.Regexp {
	words := map[string]string{
		"aksmesh_trust_anchor.this":   `Secret aksmesh-system/aksmesh-trust-anchor-` + e.mesh,
		"aksmesh_injection.this":      `namespaces|Namespace ` + e.namespace,
		"aksmesh_release.this":        `release ` + e.namespace + `/app`,
		"aksmesh_authorization.this":  `meshtlsauthentication|authorizationpolic|peerauthentication|Server \S+/web-9090`,
		"aksmesh_network_policy.this": `networkpolicies|NetworkPolicy ` + e.namespace + `/mesh-only`,
	}
	if e.mesh == "linkerd" {
		words["aksmesh_issuer.this"] = `trust_anchor_id: .*aksmesh-trust-anchor-linkerd|Secret linkerd/linkerd-identity-issuer`
		words["aksmesh_service_profile.this"] = `serviceprofile`
		words["aksmesh_linkerd.this"] = `namespace linkerd: list the records of its releases|WebhookConfiguration linkerd-|release linkerd/linkerd-`
	} else {
		words["aksmesh_issuer.this"] = `trust_anchor_id: .*aksmesh-trust-anchor-istio|Secret istio-system/cacerts`
		words["aksmesh_istio.this"] = `namespace istio-system: list the records of its releases|WebhookConfiguration isti|release istio-system/ist`
	}
	compiled := map[string]*regexp.Regexp{}
	for address, word := range words {
		compiled[address] = regexp.MustCompile("(?i)" + word)
	}
	return compiled
}

// TestAccFaults has every read, plan and destroy of every resource meet every
// fault: nothing may be taken for gone that merely could not be asked for.
func TestAccFaults(t *testing.T) {
	t.Parallel()
	for _, mesh := range []string{"linkerd", "istio"} {
		t.Run(mesh, func(t *testing.T) {
			t.Parallel()
			cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
			meetFaults(t, cluster, newEverything(t, cluster, mesh))
		})
	}
}

func meetFaults(t *testing.T, cluster *testcluster.Cluster, e everything) {
	t.Helper()
	whole := newWorkspace(t, providerConfig(cluster.Kubeconfig(), e.config()))
	whole.apply()
	apart := e.apart(whole)
	state := withoutDependencies(t, whole.stateBytes())

	t.Run("faults", func(t *testing.T) {
		for _, fault := range testcluster.Faults() {
			t.Run(fault.String(), func(t *testing.T) {
				t.Parallel()
				proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
				w := newWorkspace(t, fmt.Sprintf(`provider "aksmesh" {
				  kubernetes = { config_path = %q, request_timeout = "2s" }
				}`, proxy.Kubeconfig())+apart.config())
				w.file(stateFile, state)
				meetFault(t, w, proxy, fault, objectWords(e))
			})
		}
	})

	whole.succeed("destroy", "-auto-approve", "-no-color")
	if left := whole.attributes(); len(left) > 0 {
		t.Errorf("the destroy has left %v in the state", slices.Sorted(maps.Keys(left)))
	}
}

func meetFault(t *testing.T, w *workspace, proxy *testcluster.FaultProxy, fault testcluster.Fault, objects map[string]*regexp.Regexp) {
	t.Helper()
	reads, destroys := regexp.MustCompile(`^Unable to Read `), regexp.MustCompile(`^Unable to (Delete|Uninstall|Withdraw) `)
	before, resources := w.stateBytes(), w.attributes()
	proxy.Set(fault)
	for _, args := range [][]string{
		{"plan", "-json"},
		{"apply", "-refresh-only", "-auto-approve", "-json"},
	} {
		expectFailures(t, args, w.run(args...), reads, fault, objects)
		if !bytes.Equal(w.stateBytes(), before) {
			t.Fatalf("%v has changed the state to\n%s", args, w.stateBytes())
		}
	}

	destroy := []string{"destroy", "-refresh=false", "-auto-approve", "-json"}
	expectFailures(t, destroy, w.run(destroy...), destroys, fault, objects)
	if proxy.Faulted() == 0 || proxy.Requests() != proxy.Faulted() {
		t.Errorf("%d of %d requests met the fault", proxy.Faulted(), proxy.Requests())
	}
	// Once more with reads that work, so that it is the writes that fail. Helm
	// goes through all objects of a release, so faults that are waited out take long.
	if fault != testcluster.FaultTooManyRequests && fault != testcluster.FaultHang {
		proxy.Set(fault, testcluster.Methods(http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete))
		expectFailures(t, destroy, w.run(destroy...), destroys, fault, objects)
	}
	if left := w.attributes(); !reflect.DeepEqual(left, resources) {
		t.Errorf("failed destroys have changed the state to\n%s", w.stateBytes())
	}

	// All is as it was, in the cluster too.
	proxy.Clear()
	w.expectNoChanges()
}

// expectFailures wants each resource to have failed by an error of its own that
// says what was tried, with which object, and how the cluster failed.
func expectFailures(t *testing.T, args []string, got outcome, summary *regexp.Regexp, fault testcluster.Fault, objects map[string]*regexp.Regexp) {
	t.Helper()
	if got.code != 1 {
		t.Errorf("%v: exit code %d, want 1", args, got.code)
	}
	failures := got.failures()
	for address, object := range objects {
		matches := func(d diagnostic) bool {
			return summary.MatchString(d.Summary) && object.MatchString(d.Detail) && faultWords()[fault].MatchString(d.Detail)
		}
		if !slices.ContainsFunc(failures, matches) {
			t.Errorf("%v: %s: want an error %q that matches %q and %q, got %+v", args, address, summary, object, faultWords()[fault], failures)
		}
	}
}
