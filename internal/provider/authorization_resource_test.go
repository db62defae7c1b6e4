package provider

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

const (
	authorizationAddress = "aksmesh_authorization.this"
	defaultInboundPolicy = linkerd.DefaultInboundPolicyAnnotation
)

func authorizationConfig(cluster *testcluster.Cluster, namespace, body string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf("resource \"aksmesh_authorization\" \"this\" {\n  namespace = %q\n  name      = \"web\"\n  %s\n}\n", namespace, body))
}

// authorizing lists the objects of both meshes' authorization in a namespace, as
// <kind>/<name>.
func authorizing(ctx context.Context, cluster *kube.Cluster, namespace string) ([]string, error) {
	var names []string
	for _, kind := range slices.Concat(linkerd.PolicyKinds(), istio.PolicyKinds()) {
		if _, err := cluster.KindFor(ctx, kind.GVK()); err != nil {
			continue // The other mesh's.
		}
		objects, err := cluster.List(ctx, kind, namespace)
		if err != nil {
			return nil, err
		}
		for _, object := range objects {
			names = append(names, object.GetKind()+"/"+object.GetName())
		}
	}
	return names, nil
}

// authorizes checks which objects authorize in a namespace, by regular expressions
// for all of them.
func authorizes(t *testing.T, cluster *testcluster.Cluster, namespace string, want ...string) resource.TestCheckFunc {
	t.Helper()
	return func(*terraform.State) error {
		names, err := authorizing(context.WithoutCancel(t.Context()), connect(t, cluster), namespace)
		if err != nil {
			return err
		}
		for _, pattern := range want {
			before := len(names)
			names = slices.DeleteFunc(names, regexp.MustCompile("^"+pattern+"$").MatchString)
			if len(names) == before {
				return fmt.Errorf("no object matches %s", pattern)
			}
		}
		if len(names) > 0 {
			return fmt.Errorf("objects besides those wanted: %q", names)
		}
		return nil
	}
}

// updates is a plan that changes the authorization in place.
var updates = resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(authorizationAddress, plancheck.ResourceActionUpdate)}}

// meddle changes the last object of each of the kinds as somebody else would: the
// fields of its spec get the values.
func meddle(t *testing.T, cluster *testcluster.Cluster, namespace string, kinds []kube.Kind, fields map[string]any) {
	t.Helper()
	live := connect(t, cluster)
	changed := map[string]bool{}
	for _, kind := range kinds {
		value, known := fields[kind.Name]
		if !known {
			continue
		}
		objects, err := live.List(t.Context(), kind, namespace)
		if err != nil {
			t.Fatal(err)
		}
		if len(objects) == 0 {
			continue
		}
		changes := kube.Ref{Kind: kind, Namespace: namespace, Name: objects[len(objects)-1].GetName()}.Object()
		changes.Object["spec"] = value
		if _, err := live.Apply(t.Context(), changes, kube.ApplyOptions{Manager: "somebody", Force: true}); err != nil {
			t.Fatal(err)
		}
		changed[kind.Name] = true
	}
	if len(changed) != len(fields) {
		t.Fatalf("changed %v only", changed)
	}
}

func TestAccAuthorization_linkerd(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	patchNamespace(t, cluster, namespace, `"annotations":{"linkerd.io/inject":"enabled"}`)
	web := testcluster.NewDeployment(namespace, "web", 1)
	web.Spec.Template.Spec.Containers[0].Ports = append(web.Spec.Template.Spec.Containers[0].Ports, corev1.ContainerPort{Name: "grpc", ContainerPort: 9090})
	web.Spec.Template.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9090}}}
	web.Spec.Template.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/alive", Port: intstr.FromString("http")}}}
	if _, err := cluster.Client().AppsV1().Deployments(namespace).Create(t.Context(), web, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitPod(t, cluster, namespace, "web")
	const selector = "pod_selector = { app = \"web\" }\n"
	all := authorizationConfig(cluster, namespace, selector+`
	  mesh     = { linkerd = {} }
	  ports    = ["http", 9090]
	  mtls     = "permissive"
	  protocol = "HTTP/2"
	  allow = [
	    { service_accounts = ["shop/cart", "shop/till"], namespaces = ["front"], meshed = false },
	    { identities = ["*.back.serviceaccount.identity.linkerd.cluster.local"], networks = [{ cidr = "10.1.0.0/16", except = ["10.1.2.0/24"] }] },
	    { meshed = true, routes = [{ methods = ["GET"], path = "/status" }, { path_prefix = "/public" }, { methods = ["HEAD"], path_prefix = "/" }] },
	  ]`)
	whole := []string{`Server/web-\S+`, `AuthorizationPolicy/web-\S+`, `MeshTLSAuthentication/web-\S+`, `NetworkAuthentication/web-\S+`, `HTTPRoute/web-\S+`}
	intact := resource.ComposeTestCheckFunc(
		authorizes(t, cluster, namespace, whole...),
		resource.TestMatchResourceAttr(authorizationAddress, "manifest", regexp.MustCompile(`(?s)/grpc\.health\.v1\.Health/Check.*/alive`)),
		resource.TestCheckResourceAttr(authorizationAddress, "outdated.#", "0"),
	)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             authorizes(t, cluster, namespace),
		Steps: []resource.TestStep{
			{
				Config: all,
				Check: resource.ComposeTestCheckFunc(intact,
					resource.TestMatchResourceAttr(authorizationAddress, "guarantee", regexp.MustCompile("mTLS")),
					resource.TestMatchResourceAttr(authorizationAddress, "manifest", regexp.MustCompile(`(?s)name: cart\b.*namespace: shop.*proxyProtocol: HTTP/2`))),
			},
			{
				// It is the same however the state puts who is allowed.
				Config: all, ResourceName: authorizationAddress,
				ImportState: true, ImportStateKind: resource.ImportBlockWithID, ImportStateId: namespace + "/web",
			},
			{
				PreConfig: func() {
					meddle(t, cluster, namespace, linkerd.PolicyKinds(), map[string]any{
						"Server":                map[string]any{"accessPolicy": "all-unauthenticated"},
						"AuthorizationPolicy":   map[string]any{"requiredAuthenticationRefs": []any{}},
						"MeshTLSAuthentication": map[string]any{"identities": []any{"*"}},
						"NetworkAuthentication": map[string]any{"networks": []any{map[string]any{"cidr": "0.0.0.0/0"}}},
						"HTTPRoute":             map[string]any{"rules": []any{}},
					})
				},
				Config:           all,
				ConfigPlanChecks: updates,
				Check:            intact,
			},
			{
				// Somebody deletes a part.
				PreConfig: func() {
					server := kube.Ref{Kind: linkerd.PolicyKinds()[len(linkerd.PolicyKinds())-1], Namespace: namespace, Name: "web-http"}
					if err := connect(t, cluster).Delete(t.Context(), server, kube.DeleteOptions{Wait: true}); err != nil {
						t.Fatal(err)
					}
				},
				Config:           all,
				ConfigPlanChecks: updates,
				Check:            intact,
			},
			{
				// The pods are probed otherwise.
				PreConfig: func() {
					changed := web.DeepCopy()
					changed.Spec.Template.Spec.Containers[0].LivenessProbe.HTTPGet.Path = "/living"
					if _, err := cluster.Client().AppsV1().Deployments(namespace).Update(t.Context(), changed, metav1.UpdateOptions{}); err != nil {
						t.Fatal(err)
					}
					await(t, "the pods to be replaced", func(ctx context.Context) bool {
						pods, err := cluster.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
						return err == nil && len(pods.Items) == 1 && slices.ContainsFunc(access.ProbesOf([]*corev1.Pod{&pods.Items[0]}),
							func(probe access.Probe) bool { return probe.Path == "/living" })
					})
				},
				Config:           all,
				ConfigPlanChecks: updates,
				Check:            resource.TestMatchResourceAttr(authorizationAddress, "manifest", regexp.MustCompile(`/living`)),
			},
			{
				// The mesh is that of the pods; what is not wanted any more goes.
				Config:           authorizationConfig(cluster, namespace, selector+`ports = ["http"]`+"\n"+`allow = [{ service_accounts = ["shop/cart"] }]`),
				ConfigPlanChecks: updates,
				Check: resource.ComposeTestCheckFunc(
					authorizes(t, cluster, namespace, `Server/web-http`, `AuthorizationPolicy/web-\S+`, `MeshTLSAuthentication/web-\S+`),
					resource.TestCheckResourceAttr(authorizationAddress, "mesh.linkerd.control_plane_namespace", "linkerd")),
			},
			{
				// It stays, whatever else is not known yet.
				Config: authorizationConfig(cluster, namespace, selector+`ports = [8080]`+"\n"+`allow = [{ service_accounts = ["shop/${terraform_data.this.output}"] }]`) +
					"resource \"terraform_data\" \"this\" {\n  input = \"cart\"\n}\n",
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(authorizationAddress, plancheck.ResourceActionUpdate),
					plancheck.ExpectUnknownValue(authorizationAddress, tfjsonpath.New("manifest")),
					plancheck.ExpectKnownValue(authorizationAddress, tfjsonpath.New("mesh").AtMapKey("linkerd").AtMapKey("control_plane_namespace"), knownvalue.StringExact("linkerd")),
				}},
			},
			{
				// Nobody gets in, by a mesh that has to be found out.
				Config: strings.ReplaceAll(authorizationConfig(cluster, namespace, selector+`ports = ["http"]`+"\n"+`allow = []`), `"web"`+"\n  pod", `"none"`+"\n  pod"),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(authorizationAddress, plancheck.ResourceActionDestroyBeforeCreate),
					plancheck.ExpectUnknownValue(authorizationAddress, tfjsonpath.New("mesh")),
				}},
				Check: authorizes(t, cluster, namespace, `Server/none-http`),
			},
			{ResourceName: authorizationAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/none"},
		},
	})
}

func TestAccAuthorization_istio(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "web", 1)
	all := authorizationConfig(cluster, namespace, `pod_selector = { app = "web" }
	  mesh  = { istio = {} }
	  ports = [8080]
	  mtls  = "strict"
	  allow = [
	    { service_accounts = ["shop/cart"], namespaces = ["front"], identities = ["*/ns/back/sa/till"], networks = [{ cidr = "10.1.0.0/16", except = ["10.1.2.0/24"] }] },
	    { meshed = true, routes = [{ methods = ["GET"], path = "/status" }, { path_prefix = "/public" }] },
	  ]`)
	intact := authorizes(t, cluster, namespace, `AuthorizationPolicy/\S+`, `PeerAuthentication/\S+`)
	defaults := func(body string) string {
		return authorizationConfig(cluster, namespace, "mesh = { istio = {} }\n"+body)
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             authorizes(t, cluster, namespace),
		Steps: []resource.TestStep{
			{
				Config: all,
				Check: resource.ComposeTestCheckFunc(intact,
					resource.TestMatchResourceAttr(authorizationAddress, "manifest", regexp.MustCompile(`(?s)cluster\.local/ns/shop/sa/cart.*STRICT`))),
			},
			{ResourceName: authorizationAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/web"},
			{
				PreConfig: func() {
					meddle(t, cluster, namespace, istio.PolicyKinds(), map[string]any{
						"AuthorizationPolicy": map[string]any{"rules": []any{map[string]any{}}},
						"PeerAuthentication":  map[string]any{"mtls": map[string]any{"mode": "DISABLE"}},
					})
				},
				Config:           all,
				ConfigPlanChecks: updates,
				Check:            intact,
			},
			{
				Config: defaults(`default_policy = "deny"`),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(authorizationAddress, plancheck.ResourceActionDestroyBeforeCreate),
					plancheck.ExpectKnownValue(authorizationAddress, tfjsonpath.New("manifest"), knownvalue.StringRegexp(regexp.MustCompile("kind: AuthorizationPolicy"))),
				}},
				Check: authorizes(t, cluster, namespace, `AuthorizationPolicy/web`),
			},
			{ResourceName: authorizationAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/web"},
			{
				// Another kind of object.
				Config:           defaults(`default_policy = "all-authenticated"`),
				ConfigPlanChecks: updates,
				Check:            authorizes(t, cluster, namespace, `PeerAuthentication/web`),
			},
			{
				Config: defaults("default_policy = \"all-unauthenticated\"\nworkload = { kind = \"Deployment\", name = \"web\" }"),
				Check: resource.ComposeTestCheckFunc(
					authorizes(t, cluster, namespace, `PeerAuthentication/web`),
					resource.TestMatchResourceAttr(authorizationAddress, "manifest", regexp.MustCompile(`(?s)PERMISSIVE.*app: web`))),
			},
			{ResourceName: authorizationAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/web"},
		},
	})
}

// annotationOf is the default inbound policy of an object, or of the pods that it
// makes.
func annotationOf(t *testing.T, cluster *testcluster.Cluster, ref kube.Ref) string {
	t.Helper()
	live, err := connect(t, cluster).Get(context.WithoutCancel(t.Context()), ref)
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"metadata", "annotations", defaultInboundPolicy}
	if ref.Kind != kube.Namespace {
		at = append([]string{"spec", "template"}, at...)
	}
	value, _, _ := unstructured.NestedString(live.Object, at...)
	return value
}

func TestAccAuthorization_defaultPolicy(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	patchNamespace(t, cluster, namespace, `"annotations":{"linkerd.io/inject":"enabled"}`)
	cluster.CreateDeployment(t, namespace, "web", 2)
	whole, web := kube.Ref{Kind: kube.Namespace, Name: namespace}, kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "web"}
	says := func(ref kube.Ref, want string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			if got := annotationOf(t, cluster, ref); got != want {
				return fmt.Errorf("%s: default policy %q, want %q", ref, got, want)
			}
			return nil
		}
	}
	config := func(policy string) string {
		return authorizationConfig(cluster, namespace, fmt.Sprintf("mesh = { linkerd = {} }\n default_policy = %q", policy))
	}
	const onWeb = "\n workload = { kind = \"Deployment\", name = \"web\" }"
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             resource.ComposeTestCheckFunc(says(whole, ""), says(web, "")),
		Steps: []resource.TestStep{
			{
				Config: config("deny"),
				Check: resource.ComposeTestCheckFunc(says(whole, "deny"),
					resource.TestMatchResourceAttr(authorizationAddress, "manifest", regexp.MustCompile(`(?s)config.linkerd.io/default-inbound-policy: deny.*kind|kind: Namespace`)),
					resource.TestMatchResourceAttr(authorizationAddress, "guarantee", regexp.MustCompile("nobody gets in")),
					resource.TestCheckResourceAttr(authorizationAddress, "outdated.0", fmt.Sprintf("Deployment %s/web: 2 pods", namespace))),
			},
			{ResourceName: authorizationAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/web"},
			{
				PreConfig: func() {
					patchNamespace(t, cluster, namespace, fmt.Sprintf(`"annotations":{"linkerd.io/inject":"enabled",%q:"audit"}`, defaultInboundPolicy))
				},
				Config:           config("deny"),
				ConfigPlanChecks: updates,
				Check:            says(whole, "deny"),
			},
			{
				// An enrolment of the namespace has the pods made anew.
				Config: config("cluster-authenticated") + fmt.Sprintf(`resource "aksmesh_injection" "this" {
				  namespace       = %q
				  force_conflicts = true
				  mesh            = { linkerd = {} }
				  follows         = [aksmesh_authorization.this.manifest]
				}`, namespace),
				Check: says(whole, "cluster-authenticated"),
			},
			{
				RefreshState: true,
				Check:        resource.TestCheckResourceAttr(authorizationAddress, "outdated.#", "0"),
			},
			{
				Config: authorizationConfig(cluster, namespace, "mesh = { linkerd = {} }\n default_policy = \"audit\""+onWeb),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(authorizationAddress, plancheck.ResourceActionDestroyBeforeCreate),
				}},
				Check: resource.ComposeTestCheckFunc(says(whole, ""), says(web, "audit"),
					resource.TestCheckResourceAttr(authorizationAddress, "outdated.#", "0")),
			},
			{ResourceName: authorizationAddress, ImportState: true, ImportStateVerify: true, ImportStateId: namespace + "/web"},
		},
	})
}

func TestAccAuthorization_refused(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	const grant = "ports = [8080]\n allow = [{ meshed = true }]\n"
	const linkerdMesh = "mesh = { linkerd = {} }\n"
	other := strings.NewReplacer(`"this"`, `"other"`, `"web"`, `"second"`).Replace
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             authorizes(t, cluster, namespace),
		Steps: []resource.TestStep{
			{
				Config:      authorizationConfig(cluster, "no-such-namespace", linkerdMesh+grant),
				ExpectError: regexp.MustCompile(`(?s)Namespace\s+no-such-namespace.*not\s+found`),
			},
			{
				// The two would undo each other's by turns.
				Config: authorizationConfig(cluster, namespace, linkerdMesh+grant) + fmt.Sprintf(`
				resource "aksmesh_authorization" "second" {
				  namespace = %q
				  name      = aksmesh_authorization.this.name
				  mesh      = { linkerd = {} }
				  ports     = [9090]
				  allow     = []
				}`, namespace),
				ExpectError: regexp.MustCompile(`(?s)already\s+exists.*choose\s+another\s+name`),
			},
			{
				// What two make of their names and ports is the same.
				Config: authorizationConfig(cluster, namespace, linkerdMesh+"ports = [\"x-1\"]\n allow = []") + fmt.Sprintf(`
				resource "aksmesh_authorization" "second" {
				  namespace       = %q
				  name            = "${aksmesh_authorization.this.name}-x"
				  force_conflicts = true
				  mesh            = { linkerd = {} }
				  ports           = [1]
				  allow           = []
				}`, namespace),
				ExpectError: regexp.MustCompile(`(?s)web-x-1,\s+which\s+is\s+of\s+authorization/web`),
			},
			{
				// An enrolment says otherwise.
				Config: injectionConfig(cluster, namespace, `mesh = { linkerd = { default_inbound_policy = "audit" } }`) + `
				resource "aksmesh_authorization" "this" {
				  namespace      = aksmesh_injection.this.namespace
				  name           = "web"
				  mesh           = { linkerd = {} }
				  default_policy = "deny"
				}`,
				ExpectError: regexp.MustCompile(`(?s)managed\s+by\s+aksmesh-injection.*set\s+it\s+in\s+one`),
			},
			{Config: authorizationConfig(cluster, namespace, linkerdMesh+"default_policy = \"deny\"\n force_conflicts = true")},
			{
				Config: authorizationConfig(cluster, namespace, linkerdMesh+"default_policy = \"deny\"\n force_conflicts = true") +
					strings.Replace(other(authorizationConfig(cluster, namespace, linkerdMesh+"default_policy = \"audit\"\n depends_on = [aksmesh_authorization.this]")), providerConfig(cluster.Kubeconfig()), "", 1),
				ExpectError: regexp.MustCompile(`(?s)that\s+of\s+authorization\s+` + namespace + `/web`),
			},
			{
				ResourceName: authorizationAddress, ImportState: true, ImportStateId: "web",
				Config:      authorizationConfig(cluster, namespace, linkerdMesh+"default_policy = \"deny\""),
				ExpectError: regexp.MustCompile(`(?s)is\s+not\s+<namespace>/<name>`),
			},
			{
				ResourceName: authorizationAddress, ImportState: true, ImportStateId: namespace + "/nothing",
				Config:      authorizationConfig(cluster, namespace, linkerdMesh+"default_policy = \"deny\""),
				ExpectError: regexp.MustCompile(`(?s)non-existent`),
			},
		},
	})
}

// TestAccAuthorization_withoutMesh authorizes in a cluster without any mesh.
func TestAccAuthorization_withoutMesh(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config:      authorizationConfig(cluster, namespace, "mesh = { linkerd = {} }\n ports = [8080]\n allow = []"),
				ExpectError: regexp.MustCompile(`(?s)Server.*install\s+Linkerd\s+first`),
			},
			{
				Config:      authorizationConfig(cluster, namespace, "mesh = { istio = {} }\n default_policy = \"deny\""),
				ExpectError: regexp.MustCompile(`(?s)AuthorizationPolicy.*install\s+Istio\s+first`),
			},
			{
				Config:      authorizationConfig(cluster, namespace, "ports = [8080]\n allow = []"),
				ExpectError: regexp.MustCompile(`(?s)mesh: .*no\s+control\s+plane.*say\s+which\s+mesh`),
			},
		},
	})
}

// TestAccAuthorization_warnings reads what plans say.
func TestAccAuthorization_warnings(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	cluster.CreateDeployment(t, namespace, "bare", 1)
	patchNamespace(t, cluster, namespace, `"annotations":{"linkerd.io/inject":"enabled"}`)
	cluster.CreateDeployment(t, namespace, "web", 1)
	taken := kube.Ref{Kind: linkerd.PolicyKinds()[len(linkerd.PolicyKinds())-1], Namespace: namespace, Name: "taken"}.Object()
	taken.Object["spec"] = map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "web"}}, "port": int64(8080)}
	expectPlans(t, cluster, namespace, "mesh = { linkerd = {} }\n", map[string][]string{
		"ports = [8080]\n allow = [{ meshed = true }]\n pod_selector = { app = \"web\" }": {`once there is one, all callers but the granted are refused`},
		"ports = [8080]\n allow = []\n pod_selector = { app = \"nothing\" }":              {`no pod of Namespace \S+ has the labels app=nothing`},
		`default_policy = "deny"`: {`1 of 2 pods are not in Linkerd.*Deployment \S+/bare`, `^Deployment \S+/web: 1 pod$`},
		"default_policy = \"deny\"\n workload = { kind = \"Deployment\", name = \"web\" }": {`^Deployment \S+/web: 1 pod$`},
	})
	if _, err := connect(t, cluster).Apply(t.Context(), taken, kube.ApplyOptions{Manager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	expectPlans(t, cluster, namespace, "", map[string][]string{
		"ports = [8080]\n allow = [{ service_accounts = [\"nowhere/cart\"] }]\n pod_selector = { app = \"web\" }": {
			`Server \S+/taken is for port 8080 of the same pods`, `ServiceAccount nowhere/cart, which is let in, does not exist`,
		},
	})
}

// TestAccAuthorization_destroyedDefault withdraws a default policy that pods were
// made with.
func TestAccAuthorization_destroyedDefault(t *testing.T) {
	t.Parallel()
	cluster := linkerdCluster(t)
	namespace := cluster.Namespace(t)
	patchNamespace(t, cluster, namespace, `"annotations":{"linkerd.io/inject":"enabled"}`)
	cluster.CreateDeployment(t, namespace, "early", 1)
	awaitPod(t, cluster, namespace, "early")
	w := newWorkspace(t, authorizationConfig(cluster, namespace, "mesh = { linkerd = {} }\n default_policy = \"deny\""))
	w.succeed("apply", "-auto-approve")
	cluster.CreateDeployment(t, namespace, "late", 1)
	awaitPod(t, cluster, namespace, "late")
	expectDetails(t, "warning", w.succeed("destroy", "-auto-approve", "-json"), []string{
		`(?s)^Authorization ` + namespace + `/web is gone.*default policy deny.*:\nDeployment ` + namespace + `/late: 1 pod$`,
	})
}

// TestAccAuthorization_istioWarnings reads what plans say of Istio.
func TestAccAuthorization_istioWarnings(t *testing.T) {
	t.Parallel()
	cluster := istioCluster(t)
	namespace := cluster.Namespace(t)
	patchNamespace(t, cluster, namespace, `"labels":{"istio-injection":"enabled"}`)
	cluster.CreateDeployment(t, namespace, "web", 1)
	other := kube.Ref{Kind: istio.PolicyKinds()[1], Namespace: namespace, Name: "other"}.Object()
	other.Object["spec"] = map[string]any{"mtls": map[string]any{"mode": "PERMISSIVE"}}
	closer := kube.Ref{Kind: istio.PolicyKinds()[1], Namespace: namespace, Name: "closer"}.Object()
	closer.Object["spec"] = map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"app": "web"}}}
	for _, object := range []*unstructured.Unstructured{other, closer} {
		if _, err := connect(t, cluster).Apply(t.Context(), object, kube.ApplyOptions{Manager: "somebody"}); err != nil {
			t.Fatal(err)
		}
	}
	expectPlans(t, cluster, namespace, "", map[string][]string{
		`allow = [{ namespaces = ["nowhere"] }]`:                                                                                {`all callers but those named are refused`, `Namespace nowhere, which is let in, does not exist`},
		"mesh = { istio = {} }\n default_policy = \"all-authenticated\"":                                                        {`PeerAuthentication \S+/other is for the whole namespace, too`},
		"mesh = { istio = {} }\n default_policy = \"all-authenticated\"\n workload = { kind = \"Deployment\", name = \"web\" }": {`^PeerAuthentication \S+/closer is for the same pods by their labels`},
	})
	// What was not there when it was planned.
	applied := newWorkspace(t, authorizationConfig(cluster, namespace, "mesh = { istio = {} }\n default_policy = \"all-authenticated\"")).succeed("apply", "-auto-approve", "-json")
	told := 0
	for _, warning := range applied.diagnostics("warning") {
		if strings.Contains(warning.Detail, "/other is for the whole namespace, too") {
			told++
		}
	}
	if told != 3 {
		t.Errorf("other PeerAuthentications were told %d times, want once by the plan, once by that which Terraform makes when it applies, and once by the apply", told)
	}
	refused := newWorkspace(t, authorizationConfig(cluster, "istio-system", "mesh = { istio = {} }\n default_policy = \"deny\"")).run("plan", "-json")
	expectDetails(t, "error", refused, []string{`istio-system is the root namespace`})
}

// expectPlans wants plans without errors and with these warnings.
func expectPlans(t *testing.T, cluster *testcluster.Cluster, namespace, mesh string, warnings map[string][]string) {
	t.Helper()
	for body, want := range warnings {
		got := newWorkspace(t, authorizationConfig(cluster, namespace, mesh+body)).run("plan", "-json")
		expectDetails(t, "error", got, nil)
		expectDetails(t, "warning", got, want)
	}
}

func TestAuthorization_badInput(t *testing.T) {
	t.Parallel()
	const on, istioMesh = "namespace = \"x\"\n name = \"web\"\n", "mesh = { istio = {} }\n"
	const linkerdMesh = "mesh = { linkerd = {} }\n"
	allow := func(entry string) string { return on + linkerdMesh + "ports = [8080]\n allow = [{ " + entry + " }]" }
	expectInvalid(t, "aksmesh_authorization", map[string]invalidInput{
		on: {"attribute", "one (and only one) of [default_policy,allow]"},
		on + "default_policy = \"deny\"\n allow = []":                                             {"default_policy", "2 attributes specified when one"},
		on + "default_policy = \"deny\"\n ports = [8080]":                                         {"ports", "cannot be specified when"},
		on + "default_policy = \"most\"":                                                          {"default_policy", "must be one of"},
		on + istioMesh + "default_policy = \"cluster-authenticated\"":                             {"default_policy", "a default policy of Linkerd's"},
		on + "ports = [8080]\n allow = []\n workload = { kind = \"Deployment\", name = \"web\" }": {"workload", "default_policy"},
		on + "default_policy = \"deny\"\n workload = { kind = \"Job\", name = \"web\" }":          {"workload", "must be one of"},
		on + "ports = [0]\n allow = []":                                                           {"ports", "between 1 and 65535"},
		on + "ports = [\"0080\"]\n allow = []":                                                    {"ports", "zeros"},
		on + "ports = [\"not a name\"]\n allow = []":                                              {"ports", "the name that a container gives it"},
		on + "ports = [8080, 8080]\n allow = []":                                                  {"ports", "duplicate"},
		on + linkerdMesh + "allow = []":                                                           {"ports", "port by port"},
		on + linkerdMesh + "ports = [4143]\n allow = []":                                          {"ports", "4143"},
		on + istioMesh + "ports = [\"http\"]\n allow = []":                                        {"ports", "give the number"},
		on + istioMesh + "ports = [8080]\n protocol = \"gRPC\"\n allow = []":                      {"protocol", "appProtocol"},
		on + istioMesh + "ports = [8080]\n mtls = \"strict\"\n allow = []":                        {"mtls", "labels of pods"},
		on + "pod_selector = {}\n ports = [8080]\n allow = []":                                    {"pod_selector", "at least 1 elements"},
		on + "mesh = {}\n ports = [8080]\n allow = []":                                            {"attribute", "one (and only one) of [mesh.istio]"},
		allow(""):                                     {"allow", "names no callers"},
		allow("meshed = false"):                       {"allow", "names no callers"},
		allow("service_accounts = [\"cart\"]"):        {"service_accounts", "<namespace>/<name>"},
		allow("namespaces = [\"Shop\"]"):              {"namespaces", "DNS label"},
		allow("networks = [{ cidr = \"10.0.0.0\" }]"): {"cidr", "a range of addresses"},
		allow("networks = [{ cidr = \"10.0.0.0/8\", except = [\"11.0.0.0/8\"] }]"): {"allow", "11.0.0.0/8"},
		allow("identities = [\"a*b\"]"):                                            {"allow", "a*b"},
		allow("meshed = true, routes = [{ path = \"status\" }]"):                   {"path", "begins with /"},
		allow("meshed = true, routes = [{ path = \"/a\", path_prefix = \"/b\" }]"): {"path", "cannot be specified when"},
		allow("meshed = true, routes = [{ methods = [\"get\"] }]"):                 {"methods", "upper case"},
	})
}
