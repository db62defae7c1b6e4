package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// AtLeast tells whether a version of Kubernetes, as the API server gives it, is at
// least a minor version such as "1.31".
func AtLeast(version, minimum string) error {
	have, err := semver.NewVersion(version)
	if err != nil {
		return fmt.Errorf("the API server says that it is of version %q, which is none: %w", version, err)
	}
	want, err := semver.NewVersion(minimum)
	if err != nil {
		return fmt.Errorf("minimum version %q: %w", minimum, err)
	}
	// Pre-releases of the minimum count, as providers mark their builds like them.
	if have.Major() < want.Major() || have.Major() == want.Major() && have.Minor() < want.Minor() {
		return fmt.Errorf("the API server is of version %s, and %s is needed; upgrade the cluster", version, minimum)
	}
	return nil
}

// heartbeatLag is how old the last report of a node may be: kubelets report every
// five minutes, and `linkerd check` adds ten seconds.
const heartbeatLag = 5*time.Minute + 10*time.Second

// ClockSkew tells whether the nodes that are ready have reported lately by the
// clock of this machine.
func ClockSkew(nodes []*corev1.Node, now time.Time) error {
	var skewed []string
	for _, node := range nodes {
		if c := condition(node, corev1.NodeReady); c != nil && c.Status == corev1.ConditionTrue {
			if lag := now.Sub(c.LastHeartbeatTime.Time); lag > heartbeatLag || lag < -heartbeatLag {
				skewed = append(skewed, fmt.Sprintf("Node %s reported %s", node.Name, c.LastHeartbeatTime.UTC().Format(time.RFC3339)))
			}
		}
	}
	return Lacking(fmt.Sprintf("the clock of this machine says %s, and ", now.UTC().Format(time.RFC3339)), skewed,
		"; certificates may not be valid yet, or no more, on one side: set the clocks by NTP")
}

func condition(node *corev1.Node, of corev1.NodeConditionType) *corev1.NodeCondition {
	if i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == of }); i >= 0 {
		return &node.Status.Conditions[i]
	}
	return nil
}

// Linux tells whether all nodes run Linux: the proxies run nowhere else.
func Linux(nodes []*corev1.Node) error {
	var others []string
	for _, node := range nodes {
		if system := node.Labels[corev1.LabelOSStable]; system != "" && system != "linux" {
			others = append(others, fmt.Sprintf("Node %s (%s)", node.Name, system))
		}
	}
	return Lacking("proxies run on Linux only, and there is ", others, "; pods on such nodes stay outside of the mesh: keep meshed workloads and the control plane off them by the node selector kubernetes.io/os=linux")
}

// Schedulable tells whether some node takes pods that ask for nothing special. A
// cluster that makes nodes on demand, as Azure says of it, has one when it is wanted.
func Schedulable(nodes func(context.Context) ([]*corev1.Node, error), managed Managed) func(context.Context) error {
	return func(ctx context.Context) error {
		err := On(nodes, schedulable)(ctx)
		if err == nil || managed == nil {
			return err
		}
		if described, unknown := managed(ctx); unknown == nil && described != nil && described.MakesNodes() {
			return nil
		}
		return err
	}
}

func schedulable(nodes []*corev1.Node) error {
	var refused []string
	for _, node := range nodes {
		why := refuses(node)
		if why == "" {
			return nil
		}
		refused = append(refused, fmt.Sprintf("Node %s %s", node.Name, why))
	}
	if len(nodes) == 0 {
		return errors.New("the cluster has no nodes, so the control plane waits until there are some")
	}
	return Lacking("no node takes pods of the control plane: ", refused,
		"; add a node pool for users, or tolerate the taints by the charts' values (tolerations)")
}

// refuses is why a node takes no pods that ask for nothing special.
func refuses(node *corev1.Node) string {
	if system := node.Labels[corev1.LabelOSStable]; system != "" && system != "linux" {
		return "runs " + system
	}
	if node.Spec.Unschedulable {
		return "is cordoned"
	}
	if c := condition(node, corev1.NodeReady); c == nil || c.Status != corev1.ConditionTrue {
		return "is not ready"
	}
	for _, taint := range node.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule {
			return "has the taint " + taint.ToString()
		}
	}
	return ""
}

// Creations are the permissions to create objects of kinds in a namespace; kinds
// that have none are created in the cluster.
func Creations(namespace string, kinds ...kube.Kind) []kube.Permission {
	wanted := make([]kube.Permission, len(kinds))
	for i, kind := range kinds {
		wanted[i] = kube.Permission{Verb: "create", Kind: kind}
		if kind.Namespaced {
			wanted[i].Namespace = namespace
		}
	}
	return wanted
}

// Permitted judges which permissions the credentials lack of those that a check
// is about.
func Permitted(about ...kube.Permission) func(denied []kube.Permission) error {
	return func(denied []kube.Permission) error {
		var lacking []string
		for _, p := range about {
			if slices.Contains(denied, p) {
				lacking = append(lacking, p.String())
			}
		}
		return Lacking("the credentials may not ", lacking,
			"; a mesh brings roles, CRDs and webhooks of the whole cluster: use credentials that are bound to the ClusterRole cluster-admin (on AKS with Azure RBAC: Azure Kubernetes Service RBAC Cluster Admin)")
	}
}

// RefusedError says what a policy of the cluster does not let anybody have, and what
// to do. It does not wrap the API server's answer, which would be a lack of rights.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Managed reads what Azure says of the cluster. Nil, or an error, is that it cannot
// be asked; what the API server does is to be found out without it.
type Managed func(context.Context) (*aks.ManagedCluster, error)

// WebhooksAdmitted asks the API server, without a trace, whether it lets anybody
// have a webhook that changes pods, by one like those of the meshes' injectors. AKS
// Automatic with Kubernetes before 1.36 does not; what Azure says of the cluster
// gives the reason, and decides where the API server does not answer.
func WebhooksAdmitted(cluster *kube.Cluster, managed Managed) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := cluster.Apply(ctx, injectorLike(), kube.ApplyOptions{Manager: "aksmesh-preflight", DryRun: true, CreateOnly: true})
		tried := admitted(err)
		if managed == nil {
			return tried
		}
		described, err := managed(ctx)
		if err != nil || described == nil {
			return tried // Whether webhooks are admitted is for the API server to say.
		}
		blocks := BlocksWebhooks(described)
		switch {
		case blocks == nil, tried == nil && !described.Properties.HostedSystemProfile.Enabled:
			return tried
		case tried == nil:
			return blocks
		default:
			return fmt.Errorf("%w (a try by a dry run: %s)", blocks, tried.Error())
		}
	}
}

// webhooksFrom is the version of Kubernetes from which on AKS Automatic admits
// webhooks that change pods.
const webhooksFrom = "1.36"

// BlocksWebhooks is why a cluster, as Azure describes it, admits no webhooks that
// change objects, or nil: those of AKS Automatic with Kubernetes before 1.36 do not.
// Some that are older than their managed system node pools may yet.
func BlocksWebhooks(described *aks.ManagedCluster) error {
	version := cmp.Or(described.Properties.CurrentKubernetesVersion, described.Properties.KubernetesVersion)
	if !described.Automatic() || version == "" || AtLeast(version, webhooksFrom) == nil {
		return nil
	}
	return &RefusedError{fmt.Sprintf("AKS Automatic cluster %s has Kubernetes %s, and before %s AKS Automatic blocks every webhook that changes objects, without which no pod gets a proxy: "+
		"upgrade it to %[3]s or later (az aks upgrade --kubernetes-version %[3]s), or use a cluster of the sku Base", described.Name, version, webhooksFrom)}
}

// injectorLike is a webhook configuration like those by which meshes inject proxies
// when pods are created, except that it is for no namespace that there is.
func injectorLike() *unstructured.Unstructured {
	object := kube.Ref{Kind: kube.MutatingWebhookConfiguration, Name: "aksmesh-preflight"}.Object()
	object.Object["webhooks"] = []any{map[string]any{
		"name": "preflight.aksmesh.io",
		"clientConfig": map[string]any{
			"service": map[string]any{"namespace": "aksmesh-preflight", "name": "injector", "path": "/inject", "port": int64(443)},
		},
		"rules": []any{map[string]any{
			"operations": []any{"CREATE"}, "apiGroups": []any{""}, "apiVersions": []any{"v1"}, "resources": []any{"pods"}, "scope": "Namespaced",
		}},
		"namespaceSelector":       map[string]any{"matchLabels": map[string]any{corev1.LabelMetadataName: "aksmesh-preflight"}},
		"admissionReviewVersions": []any{"v1"}, "sideEffects": "None", "failurePolicy": "Ignore", "timeoutSeconds": int64(1),
	}}
	return object
}

// admitted judges the answer to a webhook configuration that was created in a dry
// run.
func admitted(err error) error {
	if !refused(err) {
		return unanswered(err)
	}
	return &RefusedError{"a policy of the cluster refuses webhooks that change pods, and without one no pod gets a proxy: " + err.Error() +
		"; AKS Automatic admits them from Kubernetes " + webhooksFrom + " on, and other policies have to exempt the mesh"}
}

// refused tells whether an error is the refusal of a policy: roles that lack the
// right say so otherwise. A webhook chooses the code of its refusal, and the API
// server makes 400 of one that is no error's, so that only words tell.
func refused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && slices.ContainsFunc([]string{"denied the request", "denied request", "violates PodSecurity"}, func(words string) bool {
		return strings.Contains(err.Error(), words)
	})
}

// unanswered is what is left of an error that is no refusal.
func unanswered(err error) error {
	switch {
	case err == nil, errors.Is(err, kube.ErrExists):
		return nil
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		return Skipf("the credentials may not look: %v", err)
	default:
		return err
	}
}

// Redirected asks the API server, without a trace, whether pods may have what the
// meshes' init containers need to lead their traffic to the proxy. A baseline of
// pod security, as AKS Automatic enforces it, does not let them. Where a policy
// refuses such pods without that as well, it is not to be told.
func Redirected(cluster *kube.Cluster) func(context.Context) error {
	return func(ctx context.Context) error {
		try := func(capabilities ...any) error {
			_, err := cluster.Apply(ctx, trialPod(capabilities), kube.ApplyOptions{Manager: "aksmesh-preflight", DryRun: true, CreateOnly: true})
			return err
		}
		err := try("NET_ADMIN", "NET_RAW")
		if !refused(err) {
			return unanswered(err)
		}
		switch plain := try(); {
		case refused(plain):
			return Skipf("a policy refuses the pod of the try, also without what init containers need: %v", plain)
		case unanswered(plain) != nil:
			return unanswered(plain)
		}
		return &RefusedError{"a policy of the cluster refuses pods whose init container leads their traffic to the proxy (NET_ADMIN and NET_RAW): " + err.Error() +
			"; have the mesh's CNI plugin do it, in a namespace that the policy leaves alone (AKS: az aks safeguards update --excluded-ns), which pods of applications need not be in"}
	}
}

// trialPod is a pod with an init container like linkerd-init and istio-init, which
// has some capabilities. In all else it is as policies want pods to be.
func trialPod(capabilities []any) *unstructured.Unstructured {
	probe := map[string]any{"tcpSocket": map[string]any{"port": int64(8080)}}
	container := func(name string, capabilities []any) map[string]any {
		return map[string]any{
			"name": name, "image": "mcr.microsoft.com/oss/kubernetes/pause:3.9",
			"resources": map[string]any{"requests": map[string]any{"cpu": "100m", "memory": "100Mi"}, "limits": map[string]any{"cpu": "100m", "memory": "100Mi"}},
			"securityContext": map[string]any{
				"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"add": capabilities, "drop": []any{"ALL"}},
			},
		}
	}
	main := container("main", []any{})
	main["livenessProbe"], main["readinessProbe"] = probe, probe
	object := kube.Ref{Kind: kube.Pod, Namespace: corev1.NamespaceDefault, Name: "aksmesh-preflight"}.Object()
	object.Object["spec"] = map[string]any{
		"automountServiceAccountToken": false,
		"securityContext":              map[string]any{"runAsNonRoot": true, "runAsUser": int64(65534), "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
		"initContainers":               []any{container("redirect", capabilities)},
		"containers":                   []any{main},
	}
	return object
}

// Names are those of objects.
func Names(objects []*unstructured.Unstructured) []string {
	names := make([]string, len(objects))
	for i, o := range objects {
		names[i] = o.GetName()
	}
	return names
}

// Present tells whether all objects of a kind that are wanted are among those that
// there are.
func Present(kind kube.Kind, namespace string, wanted []string, there []*unstructured.Unstructured) error {
	names := Names(there)
	var missing []string
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			missing = append(missing, kube.Ref{Kind: kind, Namespace: namespace, Name: name}.String())
		}
	}
	return Lacking("", missing, " is missing: apply the resource that installs it again, or upgrade the release")
}

// Serves reports whether a CRD serves a version.
func Serves(crd *unstructured.Unstructured, version string) bool {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	return slices.ContainsFunc(versions, func(v any) bool {
		fields, _ := v.(map[string]any)
		return fields["name"] == version && fields["served"] == true
	})
}
