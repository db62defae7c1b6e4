package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// The table of enrolments: what is enrolled × the mesh and its mode × what
// happens to it. All rows of a mesh are in one configuration, and each thing
// that happens is one apply for all of them.

// tableRow is one enrolment: of a namespace with a Deployment, or of one workload.
type tableRow struct {
	kind      string // of the target
	mode      mesh.Mode
	unlinked  bool // follows nothing
	namespace string
}

func (r tableRow) name() string {
	name := strings.ToLower(r.kind) + "-" + string(r.mode)
	if r.unlinked {
		name += "-unlinked"
	}
	return name
}

func (r tableRow) address() string { return "aksmesh_injection." + r.name() }

// workloadKind is the kind of the workload whose pods are looked at.
func (r tableRow) workloadKind() string {
	if r.kind == "Namespace" {
		return "Deployment"
	}
	return r.kind
}

// hcl is the row's resource, enrolled in a mesh with that body.
func (r tableRow) hcl(mesh, body, follows string) string {
	target := ""
	if r.kind != "Namespace" {
		target = fmt.Sprintf("workload = { kind = %q, name = \"web\" }", r.kind)
	}
	if follows != "" && !r.unlinked {
		target += "\n  follows = [" + follows + "]"
	}
	return fmt.Sprintf("resource \"aksmesh_injection\" %q {\n  namespace = %q\n  %s\n  mesh = { %s = { %s } }\n}\n", r.name(), r.namespace, target, mesh, body)
}

// rowState is what tells a restart from none.
type rowState struct {
	generation int64 // of the workload, which grows when its template changes
	pods       []types.UID
}

// tableTest runs the rows of one mesh.
type tableTest struct {
	t       *testing.T
	cluster *testcluster.Cluster
	rows    []tableRow
	before  map[string]rowState
}

func newTableTest(t *testing.T, rows []tableRow, template func(tableRow, *corev1.PodTemplateSpec)) *tableTest {
	t.Helper()
	table := &tableTest{t: t, cluster: testcluster.New(t, testcluster.Options{Nodes: 1}), rows: rows, before: map[string]rowState{}}
	for i := range table.rows {
		row := &table.rows[i]
		row.namespace = table.cluster.Namespace(t)
		createWorkload(t, table.cluster, row.workloadKind(), row.namespace, "web", func(of *corev1.PodTemplateSpec) { template(*row, of) })
	}
	for _, row := range table.rows {
		await(t, "the pods of "+row.name(), func(ctx context.Context) bool {
			state, pods, err := table.look(ctx, row)
			return err == nil && len(state.pods) > 0 && !slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return !ready(pod) })
		})
	}
	return table
}

func ready(pod corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// look reads a row's workload and its living pods.
func (table *tableTest) look(ctx context.Context, row tableRow) (rowState, []corev1.Pod, error) {
	apps := table.cluster.Client().AppsV1()
	var object metav1.Object
	var err error
	switch row.workloadKind() {
	case "StatefulSet":
		object, err = apps.StatefulSets(row.namespace).Get(ctx, "web", metav1.GetOptions{})
	case "DaemonSet":
		object, err = apps.DaemonSets(row.namespace).Get(ctx, "web", metav1.GetOptions{})
	default:
		object, err = apps.Deployments(row.namespace).Get(ctx, "web", metav1.GetOptions{})
	}
	if err != nil {
		return rowState{}, nil, err
	}
	pods, err := table.cluster.Client().CoreV1().Pods(row.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		return rowState{}, nil, err
	}
	living := slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil })
	state := rowState{generation: object.GetGeneration()}
	for _, pod := range living {
		state.pods = append(state.pods, pod.UID)
	}
	return state, living, nil
}

// remember takes down what the rows are like before an apply.
func (table *tableTest) remember() {
	table.t.Helper()
	for _, row := range table.rows {
		state, _, err := table.look(table.t.Context(), row)
		if err != nil {
			table.t.Fatal(err)
		}
		table.before[row.name()] = state
	}
}

// expected is what an apply does to one row.
type expected struct {
	// action of the plan; none if empty.
	action plancheck.ResourceActionType
	// planned are the restarts that the plan names; nil if it leaves them to the apply.
	planned []string
	// restarts are those that the state has after it, as regular expressions.
	restarts []string
	// rolls counts how often the template has changed.
	rolls int64
	// pod checks each pod as it is then.
	pod func(pod corev1.Pod) error
}

// step is one apply of the table.
func (table *tableTest) step(config string, prepare func(), expect func(tableRow) expected) resource.TestStep {
	var plan []plancheck.PlanCheck
	var state []statecheck.StateCheck
	for _, row := range table.rows {
		e := expect(row)
		if e.action == "" {
			e.action = plancheck.ResourceActionNoop
		}
		plan = append(plan, plancheck.ExpectResourceAction(row.address(), e.action))
		switch {
		case e.action == plancheck.ResourceActionNoop, e.action == plancheck.ResourceActionDestroy:
		case e.planned != nil:
			plan = append(plan, plancheck.ExpectKnownValue(row.address(), tfjsonpath.New("restarts"), linesMatching(e.planned)))
		default:
			plan = append(plan, plancheck.ExpectUnknownValue(row.address(), tfjsonpath.New("restarts")))
		}
		if e.action != plancheck.ResourceActionDestroy && e.restarts != nil {
			state = append(state, statecheck.ExpectKnownValue(row.address(), tfjsonpath.New("restarts"), linesMatching(e.restarts)),
				statecheck.ExpectKnownValue(row.address(), tfjsonpath.New("stale_pods"), knownvalue.Int64Exact(0)))
		}
	}
	return resource.TestStep{
		PreConfig: func() {
			if prepare != nil {
				prepare()
			}
			table.remember()
		},
		Config:            config,
		ConfigPlanChecks:  resource.ConfigPlanChecks{PreApply: plan},
		ConfigStateChecks: state,
		Check: func(*terraform.State) error {
			for _, row := range table.rows {
				if err := table.check(row, expect(row)); err != nil {
					return fmt.Errorf("%s: %w", row.name(), err)
				}
			}
			return nil
		},
	}
}

func (table *tableTest) check(row tableRow, e expected) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(table.t.Context()), time.Minute)
	defer cancel()
	state, pods, err := table.look(ctx, row)
	if err != nil {
		return err
	}
	before := table.before[row.name()]
	if rolls := state.generation - before.generation; rolls != e.rolls {
		return fmt.Errorf("its template has changed %d times, want %d", rolls, e.rolls)
	}
	if len(pods) == 0 {
		return fmt.Errorf("it has no pods")
	}
	for _, pod := range pods {
		if anew := !slices.Contains(before.pods, pod.UID); anew != (e.rolls > 0) {
			return fmt.Errorf("pod %s was made anew: %t", pod.Name, anew)
		}
		if err := e.pod(pod); err != nil {
			return fmt.Errorf("pod %s: %w", pod.Name, err)
		}
	}
	return nil
}

// linesMatching matches a list of strings with regular expressions.
func linesMatching(patterns []string) knownvalue.Check {
	checks := make([]knownvalue.Check, len(patterns))
	for i, pattern := range patterns {
		checks[i] = knownvalue.StringRegexp(regexp.MustCompile(pattern))
	}
	return knownvalue.ListExact(checks)
}

// restartOf is the line of a restart of a row's workload for that cause.
func (r tableRow) restartOf(cause mesh.Cause) []string {
	return []string{fmt.Sprintf(`^%s %s/web: \d+ pods?: %s`, r.workloadKind(), r.namespace, regexp.QuoteMeta(string(cause)))}
}

// placeOf tells where a pod has a container: "" if nowhere.
func placeOf(pod corev1.Pod, container string) mesh.Mode {
	named := func(c corev1.Container) bool { return c.Name == container }
	switch {
	case slices.ContainsFunc(pod.Spec.Containers, named):
		return mesh.Sidecar
	case slices.ContainsFunc(pod.Spec.InitContainers, named):
		return mesh.NativeSidecar
	default:
		return ""
	}
}

// wantEqual is an error unless the two are the same.
func wantEqual(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s is %q, want %q", what, got, want)
	}
	return nil
}

func tableRows(modes ...mesh.Mode) []tableRow {
	var rows []tableRow
	for _, mode := range modes {
		for _, kind := range []string{"Namespace", "Deployment", "StatefulSet", "DaemonSet"} {
			rows = append(rows, tableRow{kind: kind, mode: mode})
		}
	}
	return rows
}

// patchMetadata changes labels and annotations of a row's target as somebody else.
func (table *tableTest) patchMetadata(row tableRow, labels, annotations map[string]string) {
	table.t.Helper()
	fields := map[string]map[string]any{"labels": {}, "annotations": {}}
	for part, values := range map[string]map[string]string{"labels": labels, "annotations": annotations} {
		for key, value := range values {
			fields[part][key] = value
			if value == "" {
				fields[part][key] = nil
			}
		}
	}
	content := map[string]any{"metadata": fields}
	if row.kind != "Namespace" {
		content = map[string]any{"spec": map[string]any{"template": content}}
	}
	patch, err := json.Marshal(content)
	if err != nil {
		table.t.Fatal(err)
	}
	patchObject(table.t, table.cluster, row.kind, row.namespace, "web", string(patch))
}

// awaitPods waits until all pods of a row are ready and pass a check.
func (table *tableTest) awaitPods(row tableRow, what string, passes func(corev1.Pod) bool) {
	table.t.Helper()
	await(table.t, fmt.Sprintf("pods of %s %s", row.name(), what), func(ctx context.Context) bool {
		_, pods, err := table.look(ctx, row)
		return err == nil && len(pods) > 0 && !slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return !ready(pod) || !passes(pod) })
	})
}

func TestAccInjectionTable_linkerd(t *testing.T) {
	t.Parallel()
	rows := tableRows(mesh.Sidecar, mesh.NativeSidecar)
	rows = append(rows, tableRow{kind: "Namespace", mode: mesh.NativeSidecar, unlinked: true})
	table := newTableTest(t, rows, func(tableRow, *corev1.PodTemplateSpec) {})
	second := anchorPEM(t)

	config := func(version, roots, setting, follows string) string {
		text := providerConfig(table.cluster.Kubeconfig(), fmt.Sprintf(`
		resource "aksmesh_trust_anchor" "this" {}
		resource "aksmesh_issuer" "this" {
		  trust_anchor_id  = aksmesh_trust_anchor.this.id
		  trust_bundle_pem = local.roots
		  mesh             = "linkerd"
		}
		locals { roots = "${trimspace(aksmesh_trust_anchor.this.bundle_pem)}\n%s" }
		resource "aksmesh_linkerd" "this" {
		  version    = %q
		  repository = %q
		  issuer_id  = aksmesh_issuer.this.id
		}
		`, strings.ReplaceAll(roots, "\n", `\n`), version, table.cluster.Charts().Repository))
		for _, row := range table.rows {
			if setting == "" {
				break
			}
			text += row.hcl("linkerd", fmt.Sprintf("control_plane_namespace = aksmesh_linkerd.this.id, proxy_enable_native_sidecar = %t, proxy_log_level = %q", row.mode == mesh.NativeSidecar, setting), follows)
		}
		return text
	}
	const linked = "aksmesh_linkerd.this.version, local.roots"
	// injected checks a pod against the control plane that there is.
	injected := func(row tableRow, version, setting string) func(corev1.Pod) error {
		return func(pod corev1.Pod) error {
			roots, err := table.cluster.Client().CoreV1().ConfigMaps("linkerd").Get(table.t.Context(), "linkerd-identity-trust-roots", metav1.GetOptions{})
			if err != nil {
				return err
			}
			digest := sha256.Sum256([]byte(roots.Data["ca-bundle.crt"]))
			return errors.Join(
				wantEqual("the place of linkerd-proxy", string(placeOf(pod, "linkerd-proxy")), string(row.mode)),
				wantEqual("the proxy's version", pod.Annotations["linkerd.io/proxy-version"], "edge-"+strings.TrimPrefix(version, "20")),
				wantEqual("the trust roots", pod.Annotations["linkerd.io/trust-root-sha256"], hex.EncodeToString(digest[:])),
				wantEqual("the log level", pod.Annotations["config.linkerd.io/proxy-log-level"], setting),
			)
		}
	}
	outside := func(pod corev1.Pod) error {
		return wantEqual("the place of linkerd-proxy", string(placeOf(pod, "linkerd-proxy")), "")
	}
	const quiet, loud = "warn", "debug"

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			table.step(config(linkerdOld, "", quiet, linked), nil, func(row tableRow) expected {
				return expected{
					action: plancheck.ResourceActionCreate, restarts: row.restartOf(mesh.NotInjected), rolls: 1,
					pod: injected(row, linkerdOld, quiet),
				}
			}),
			table.step(config(linkerdOld, "", loud, linked), nil, func(row tableRow) expected {
				return expected{
					action: plancheck.ResourceActionUpdate, restarts: row.restartOf(mesh.ChangedSettings), rolls: 1,
					pod: injected(row, linkerdOld, loud),
				}
			}),
			nonEmpty(table.step(config(linkerdNew, "", loud, linked), nil, func(row tableRow) expected {
				if row.unlinked {
					return expected{pod: injected(row, linkerdOld, loud)}
				}
				return expected{
					action: plancheck.ResourceActionUpdate, restarts: row.restartOf(mesh.StaleVersion), rolls: 1,
					pod: injected(row, linkerdNew, loud),
				}
			})),
			// What follows nothing is stale in the plan after that.
			table.step(config(linkerdNew, "", loud, linked), nil, func(row tableRow) expected {
				if !row.unlinked {
					return expected{pod: injected(row, linkerdNew, loud)}
				}
				stale := row.restartOf(mesh.StaleVersion)
				return expected{
					action: plancheck.ResourceActionUpdate, planned: stale, restarts: stale, rolls: 1,
					pod: injected(row, linkerdNew, loud),
				}
			}),
			nonEmpty(table.step(config(linkerdNew, second, loud, linked), nil, func(row tableRow) expected {
				if row.unlinked {
					return expected{pod: func(pod corev1.Pod) error {
						return wantEqual("the place of linkerd-proxy", string(placeOf(pod, "linkerd-proxy")), string(row.mode))
					}}
				}
				return expected{
					action: plancheck.ResourceActionUpdate, restarts: row.restartOf(mesh.StaleTrustRoots), rolls: 1,
					pod: injected(row, linkerdNew, loud),
				}
			})),
			table.step(config(linkerdNew, second, loud, linked), nil, func(row tableRow) expected {
				if !row.unlinked {
					return expected{pod: injected(row, linkerdNew, loud)}
				}
				stale := row.restartOf(mesh.StaleTrustRoots)
				return expected{
					action: plancheck.ResourceActionUpdate, planned: stale, restarts: stale, rolls: 1,
					pod: injected(row, linkerdNew, loud),
				}
			}),
			// Somebody takes the marks away. A workload's controller then makes its
			// pods without a proxy, those of a namespace stay.
			table.step(config(linkerdNew, second, loud, linked), func() {
				for _, row := range table.rows {
					table.patchMetadata(row, nil, map[string]string{"linkerd.io/inject": ""})
				}
				for _, row := range table.rows {
					if row.kind != "Namespace" {
						table.awaitPods(row, "without a proxy", func(pod corev1.Pod) bool { return outside(pod) == nil })
					}
				}
			}, func(row tableRow) expected {
				e := expected{action: plancheck.ResourceActionUpdate, planned: []string{}, restarts: []string{}, pod: injected(row, linkerdNew, loud)}
				if row.kind != "Namespace" {
					e.planned, e.restarts, e.rolls = row.restartOf(mesh.NotInjected), row.restartOf(mesh.NotInjected), 1
				}
				return e
			}),
			// Pods slip past the injector.
			table.step(config(linkerdNew, second, loud, linked), func() {
				for _, row := range table.rows {
					table.slipPast(row, "config.linkerd.io/admission-webhooks", func(pod corev1.Pod) bool { return outside(pod) == nil })
				}
			}, func(row tableRow) expected {
				lost := row.restartOf(mesh.NotInjected)
				return expected{action: plancheck.ResourceActionUpdate, planned: lost, restarts: lost, rolls: 1, pod: injected(row, linkerdNew, loud)}
			}),
			table.step(config(linkerdNew, second, "", ""), nil, func(tableRow) expected {
				return expected{action: plancheck.ResourceActionDestroy, rolls: 1, pod: outside}
			}),
		},
	})
}

// slipPast makes the pods of a row anew while a label of the namespace keeps
// the injector away.
func (table *tableTest) slipPast(row tableRow, label string, outside func(corev1.Pod) bool) {
	table.t.Helper()
	set := func(value string) {
		patchObject(table.t, table.cluster, "Namespace", row.namespace, "", fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, label, value))
	}
	set(`"disabled"`)
	// The API server learns of labels with a delay.
	await(table.t, "pods of "+row.name()+" outside of the mesh", func(ctx context.Context) bool {
		_, pods, err := table.look(ctx, row)
		if err != nil || len(pods) == 0 {
			return false
		}
		done := true
		for _, pod := range pods {
			if outside(pod) {
				done = done && ready(pod)
				continue
			}
			done = false
			if ready(pod) {
				// One that is gone already is made anew without help.
				_ = table.cluster.Client().CoreV1().Pods(row.namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{})
			}
		}
		return done
	})
	set("null")
}

func nonEmpty(step resource.TestStep) resource.TestStep {
	step.ExpectNonEmptyPlan = true
	return step
}

func TestAccInjectionTable_istio(t *testing.T) {
	t.Parallel()
	rows := append(tableRows(mesh.Sidecar, mesh.NativeSidecar, mesh.Ambient), tableRow{kind: "Namespace", mode: mesh.Sidecar, unlinked: true})
	table := newTableTest(t, rows, func(row tableRow, template *corev1.PodTemplateSpec) {
		// No namespace can say it, and without a word proxies are native here.
		if row.kind == "Namespace" && row.mode == mesh.Sidecar {
			template.Annotations = map[string]string{"sidecar.istio.io/nativeSidecar": "false"}
		}
	})
	cluster := connect(t, table.cluster)
	issuer := trust.IssuerRef{Mesh: "istio", Namespace: istioSystem}
	anchorOf := func(name string) *pki.KeyPair {
		anchor, err := pki.NewAnchor(pki.AuthorityOptions{Subject: pki.Subject{CommonName: name}, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return anchor
	}
	if err := keepIssuer(t.Context(), cluster, issuer, anchorOf("first")); err != nil {
		t.Fatal(err)
	}

	const otherModes = "other modes"
	config := func(version, setting string) string {
		text := providerConfig(table.cluster.Kubeconfig(), fmt.Sprintf(`
		resource "aksmesh_istio" "this" {
		  version     = %q
		  repository  = %q
		  profile     = "minimal"
		  issuer_id   = %q
		  delete_crds = true
		  values      = { istiod = ["pilot: { env: { PILOT_ENABLE_AMBIENT: 'true' } }"] }
		}
		`, version, table.cluster.Charts().Repository, issuer))
		for _, row := range table.rows {
			body := "control_plane_namespace = aksmesh_istio.this.id"
			switch {
			case setting == "":
				return text
			case setting == otherModes && row.mode == mesh.Ambient:
			case setting == otherModes, row.mode == mesh.Ambient:
				body += ", mode = \"ambient\""
			case row.kind != "Namespace":
				body += fmt.Sprintf(", native_sidecar = %t, log_level = %q", row.mode == mesh.NativeSidecar, setting)
			case setting == "debug":
				// The same control plane by its revision.
				body += ", revision = \"default\""
			}
			text += row.hcl("istio", body, "aksmesh_istio.this.version")
		}
		return text
	}
	injected := func(row tableRow, version, setting string) func(corev1.Pod) error {
		return func(pod corev1.Pod) error {
			if row.mode == mesh.Ambient {
				return errors.Join(
					wantEqual("the place of istio-proxy", string(placeOf(pod, "istio-proxy")), ""),
					wantEqual("the redirection", pod.Annotations["ambient.istio.io/redirection"], "enabled"),
				)
			}
			if row.kind == "Namespace" {
				setting = ""
			}
			container, _ := mesh.FindSidecar(&pod, "istio-proxy")
			if container == nil {
				return errors.New("it has no proxy")
			}
			return errors.Join(
				wantEqual("the place of istio-proxy", string(placeOf(pod, "istio-proxy")), string(row.mode)),
				wantEqual("the proxy's image", container.Image, istioHub+"/proxyv2:"+version),
				wantEqual("the log level", pod.Annotations["sidecar.istio.io/logLevel"], setting),
			)
		}
	}
	outside := func(pod corev1.Pod) error {
		return errors.Join(
			wantEqual("the place of istio-proxy", string(placeOf(pod, "istio-proxy")), ""),
			wantEqual("the redirection", pod.Annotations["ambient.istio.io/redirection"], ""),
		)
	}
	const quiet, loud = "warning", "debug"

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{Config: config(istioOld, "")},
			table.step(config(istioOld, quiet), func() { table.installAmbient(cluster, istioOld) }, func(row tableRow) expected {
				e := expected{action: plancheck.ResourceActionCreate, restarts: row.restartOf(mesh.NotInjected), rolls: 1, pod: injected(row, istioOld, quiet)}
				if row.mode == mesh.Ambient && row.kind == "Namespace" {
					e.restarts, e.rolls = []string{}, 0
				}
				return e
			}),
			table.step(config(istioOld, loud), nil, func(row tableRow) expected {
				e := expected{action: plancheck.ResourceActionUpdate, restarts: row.restartOf(mesh.ChangedSettings), rolls: 1, pod: injected(row, istioOld, loud)}
				switch {
				case row.mode == mesh.Ambient:
					return expected{pod: e.pod}
				case row.kind == "Namespace":
					e.restarts, e.rolls = []string{}, 0
				}
				return e
			}),
			nonEmpty(table.step(config(istioNew, loud), nil, func(row tableRow) expected {
				e := expected{action: plancheck.ResourceActionUpdate, restarts: row.restartOf(mesh.StaleVersion), rolls: 1, pod: injected(row, istioNew, loud)}
				switch {
				case row.unlinked:
					return expected{pod: injected(row, istioOld, loud)}
				case row.mode == mesh.Ambient:
					e.restarts, e.rolls = []string{}, 0
				}
				return e
			})),
			table.step(config(istioNew, loud), nil, func(row tableRow) expected {
				if !row.unlinked {
					return expected{pod: injected(row, istioNew, loud)}
				}
				stale := row.restartOf(mesh.StaleVersion)
				return expected{action: plancheck.ResourceActionUpdate, planned: stale, restarts: stale, rolls: 1, pod: injected(row, istioNew, loud)}
			}),
			// Another root: proxies with sidecars have the former for half a day still.
			table.step(config(istioNew, loud), func() {
				anchor := anchorOf("second")
				// By somebody's hand, all at once.
				swapCACerts(t, table.cluster, anchor)
				scale(t, table.cluster, istioSystem, "istiod", 0)
				scale(t, table.cluster, istioSystem, "istiod", 1)
				await(t, "istiod's other root", func(ctx context.Context) bool {
					roots, err := table.cluster.Client().CoreV1().ConfigMaps(istioSystem).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
					return err == nil && strings.Contains(roots.Data["root-cert.pem"], strings.TrimSpace(string(anchor.CertificatePEM())))
				})
			}, func(row tableRow) expected {
				if row.mode == mesh.Ambient {
					return expected{pod: injected(row, istioNew, loud)}
				}
				stale := row.restartOf(mesh.StaleTrustRoots)
				return expected{action: plancheck.ResourceActionUpdate, planned: stale, restarts: stale, rolls: 1, pod: injected(row, istioNew, loud)}
			}),
			// Somebody takes the marks away.
			table.step(config(istioNew, loud), func() {
				for _, row := range table.rows {
					table.patchMetadata(row, map[string]string{"istio-injection": "", "istio.io/rev": "", "sidecar.istio.io/inject": "", "istio.io/dataplane-mode": ""}, nil)
				}
				for _, row := range table.rows {
					if row.kind != "Namespace" || row.mode == mesh.Ambient {
						table.awaitPods(row, "outside of the mesh", func(pod corev1.Pod) bool { return outside(pod) == nil })
					}
				}
			}, func(row tableRow) expected {
				e := expected{action: plancheck.ResourceActionUpdate, planned: []string{}, restarts: []string{}, pod: injected(row, istioNew, loud)}
				if row.kind != "Namespace" {
					e.planned, e.restarts, e.rolls = row.restartOf(mesh.NotInjected), row.restartOf(mesh.NotInjected), 1
				}
				return e
			}),
			// Pods slip past the injector. Nothing slips past the node's agent.
			table.step(config(istioNew, loud), func() {
				for _, row := range table.rows {
					if row.mode != mesh.Ambient {
						table.slipPast(row, "istio-injection", func(pod corev1.Pod) bool { return outside(pod) == nil })
					}
				}
			}, func(row tableRow) expected {
				if row.mode == mesh.Ambient {
					return expected{pod: injected(row, istioNew, loud)}
				}
				lost := row.restartOf(mesh.NotInjected)
				return expected{action: plancheck.ResourceActionUpdate, planned: lost, restarts: lost, rolls: 1, pod: injected(row, istioNew, loud)}
			}),
			// From sidecars to the ambient mode and the other way round.
			table.step(config(istioNew, otherModes), nil, func(row tableRow) expected {
				other := mesh.Ambient
				if row.mode == mesh.Ambient {
					other = mesh.NativeSidecar
				}
				return expected{
					action: plancheck.ResourceActionUpdate, restarts: row.restartOf(mesh.OtherMode), rolls: 1,
					pod: injected(tableRow{kind: "Namespace", mode: other}, istioNew, ""),
				}
			}),
			table.step(config(istioNew, ""), nil, func(row tableRow) expected {
				e := expected{action: plancheck.ResourceActionDestroy, rolls: 1, pod: outside}
				if row.mode != mesh.Ambient && row.kind == "Namespace" {
					e.rolls = 0
				}
				return e
			}),
		},
	})
}

// installAmbient installs what the ambient mode needs beside istiod, as somebody
// else does it: aksmesh_istio would remove agents of its own that its profile has
// not.
func (table *tableTest) installAmbient(cluster *kube.Cluster, version string) {
	table.t.Helper()
	charts, err := testCharts(cluster)
	if err != nil {
		table.t.Fatal(err)
	}
	for name, agent := range map[string]string{"cni": "istio-cni-node", "ztunnel": "ztunnel"} {
		chart, err := charts.Load(table.t.Context(), table.cluster.Charts().Repository, name, version)
		if err == nil {
			_, err = charts.Releases.Deploy(table.t.Context(), helm.DeployRequest{
				Namespace: istioSystem, Name: name, Chart: chart, Values: map[string]any{"profile": "ambient"},
			})
		}
		if err == nil {
			err = cluster.AwaitReady(table.t.Context(), kube.Ref{Kind: kube.DaemonSet, Namespace: istioSystem, Name: agent})
		}
		if err != nil {
			table.t.Fatal(err)
		}
	}
}

// swapCACerts gives istiod a CA below another root, and nothing of the one before.
func swapCACerts(t *testing.T, cluster *testcluster.Cluster, anchor *pki.KeyPair) {
	t.Helper()
	ca, err := pki.NewIssuer(anchor, pki.AuthorityOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	data, err := istio.CACertsSecretData(ca, pki.NewBundle(anchor.Certificate()))
	if err != nil {
		t.Fatal(err)
	}
	secrets := cluster.Client().CoreV1().Secrets(istioSystem)
	secret, err := secrets.Get(t.Context(), istio.CACertsSecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.Data = data
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}
