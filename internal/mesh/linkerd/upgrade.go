package linkerd

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/klog/v2"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

// checkInstallation looks whether the cluster can take what is wanted instead of
// what is on record, nil if nothing is.
func (i Installer) checkInstallation(ctx context.Context, p *Prepared, record *helm.Release) (warnings []string, err error) {
	kubernetes, err := i.Cluster.Version(ctx)
	if err != nil {
		return nil, err
	}
	if have, err := version.ParseGeneric(kubernetes); err == nil && p.line.kubernetes != 0 && have.Minor() > uint(p.line.kubernetes) {
		warnings = append(warnings, fmt.Sprintf("Linkerd %s is declared to work with Kubernetes up to 1.%d, and the cluster runs %s.", p.line, p.line.kubernetes, kubernetes))
	}
	var problems []error
	if record != nil {
		if from, _ := versionOf(record.AppVersion, record.ChartVersion); from != (Version{}) && p.version != (Version{}) {
			if err := checkUpgrade(from, p.version); err != nil {
				problems = append(problems, &InputError{Input: "version", Err: err})
			}
		}
	}
	if p.specification.HighAvailability && (record == nil || record.Values["highAvailability"] != true) {
		problems = append(problems, i.checkNodes(ctx, p.values))
	}
	return warnings, errors.Join(problems...)
}

// replicas is how many nodes high availability takes: the pods of a Deployment
// do not share one.
const replicas = 3

// checkNodes refuses high availability where its pods would wait for nodes.
func (i Installer) checkNodes(ctx context.Context, values map[string]any) error {
	nodes, err := i.Cluster.Nodes(ctx)
	if err != nil {
		return err
	}
	var placement struct {
		Tolerations  []corev1.Toleration `json:"tolerations"`
		NodeSelector map[string]string   `json:"nodeSelector"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(values, &placement); err != nil {
		return nil //nolint:nilerr // What the chart makes of such values is for the API server to refuse.
	}
	usable := 0
	for _, node := range nodes {
		if takes(ctx, node, placement.NodeSelector, placement.Tolerations) {
			usable++
		}
	}
	if usable >= replicas {
		return nil
	}
	return &InputError{Input: "high_availability", Err: fmt.Errorf(
		"%d of %d nodes can take pods of the control plane, and high availability spreads them over %d: add nodes, or tolerate their taints by the chart's value tolerations", usable, len(nodes), replicas)}
}

// takes tells whether a node can take pods now.
func takes(ctx context.Context, node *corev1.Node, selector map[string]string, tolerations []corev1.Toleration) bool {
	if node.Spec.Unschedulable || node.Labels[corev1.LabelOSStable] == "windows" {
		return false
	}
	for key, value := range selector {
		if node.Labels[key] != value {
			return false
		}
	}
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		tolerated := false
		for _, toleration := range tolerations {
			tolerated = tolerated || toleration.ToleratesTaint(klog.FromContext(ctx), &taint, false)
		}
		if !tolerated {
			return false
		}
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// recordedWebhooks are the values for the certificates of webhooks as they are on
// record, so that what an apply changes otherwise can be told from them alone.
func recordedWebhooks(record *helm.Release) (map[string]any, error) {
	values := map[string]any{}
	registered := map[string]string{}
	if record != nil {
		objects, err := record.Objects()
		if err != nil {
			return nil, fmt.Errorf("release %s/%s: %w", record.Namespace, record.Name, err)
		}
		for _, object := range objects {
			webhooks, _, err := unstructured.NestedSlice(object.Object, "webhooks")
			if err != nil || len(webhooks) == 0 {
				continue
			}
			first, _ := webhooks[0].(map[string]any)
			bundle, _, err := unstructured.NestedString(first, "clientConfig", "caBundle")
			if text, decodeErr := base64.StdEncoding.DecodeString(bundle); err == nil && decodeErr == nil {
				registered[object.GetName()] = string(text)
			}
		}
	}
	for _, s := range controlPlaneServers("") {
		own := map[string]any{"externalSecret": true}
		if record != nil {
			if former, _, err := unstructured.NestedMap(record.Values, s.values); err == nil && former["externalSecret"] == true {
				for _, key := range []string{"caBundle", "injectCaFrom", "injectCaFromSecret"} {
					if value, set := former[key]; set {
						own[key] = value
					}
				}
			}
		}
		if len(own) == 1 {
			// The charts want one, whatever it is, and a first install does not show it.
			own["caBundle"] = cmp.Or(registered[s.registration.Name], "comes with the apply")
		}
		values[s.values] = own
	}
	return values, nil
}
