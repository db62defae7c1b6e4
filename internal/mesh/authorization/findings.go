package authorization

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
)

// Findings is what is known of a plan that an apply would not refuse, one line
// each.
type Findings struct {
	// Policy is what the mesh makes of it that may not be meant, Callers which
	// callers of a grant, by its index, are not there.
	Policy  []string
	Callers map[int][]string
	// Pods is which pods it does not reach, Outdated those that it reaches only once
	// somebody restarts them, Restarted those that the apply itself restarts.
	Pods, Outdated, Restarted []string
}

// Foresee looks for what defeats the intent, or goes further than may be meant. An
// intent without a mesh is looked at as that of the mesh which the pods belong to.
// It reads shared reads only.
func (i Intent) Foresee(ctx context.Context, cluster *kube.Cluster) (Findings, error) {
	var findings Findings
	if i.Mesh == (Mesh{}) {
		var err error
		if i.Mesh, err = WhichMesh(ctx, cluster, i.Namespace, i.Pods); err != nil {
			return findings, err
		}
		if err := i.Check(); err != nil {
			return findings, err
		}
	}
	owned, err := i.owned(ctx, cluster)
	if err != nil {
		return findings, err
	}
	switch {
	case i.Default == nil:
		err = i.foreseePolicy(ctx, cluster, owned, &findings)
	case i.Mesh.Istio != nil:
		findings.Policy, err = i.rivals(ctx, cluster, owned)
	}
	if err != nil {
		return findings, err
	}
	if findings.Pods, err = i.unreached(ctx, cluster); err != nil {
		return findings, err
	}
	outdated, err := i.Outdated(ctx, cluster)
	if err != nil || len(outdated) == 0 {
		return findings, err
	}
	rolls, err := i.rolls(ctx, cluster)
	if rolls {
		findings.Restarted = outdated
	} else {
		findings.Outdated = outdated
	}
	return findings, err
}

// owned tells the objects of the authorization from others.
func (i Intent) owned(ctx context.Context, cluster *kube.Cluster) (func(*unstructured.Unstructured) bool, error) {
	own, err := holdingOf(cluster, i.Namespace, i.Name, &i).Find(ctx)
	return func(object *unstructured.Unstructured) bool {
		return slices.ContainsFunc(own.Objects, func(o *unstructured.Unstructured) bool { return o.GetUID() == object.GetUID() })
	}, err
}

// Rivals says which objects may decide instead of that of a default policy of
// Istio's that is in force, one line each: what the same apply has made was not
// there to be foreseen.
func (i Intent) Rivals(ctx context.Context, cluster *kube.Cluster) ([]string, error) {
	if i.Default == nil || i.Mesh.Istio == nil {
		return nil, nil
	}
	owned, err := i.owned(ctx, cluster)
	if err != nil {
		return nil, err
	}
	return i.rivals(ctx, cluster, owned)
}

func (i Intent) rivals(ctx context.Context, cluster *kube.Cluster, owned func(*unstructured.Unstructured) bool) ([]string, error) {
	pods, err := i.workloadLabels(ctx, cluster)
	if err != nil {
		return nil, err
	}
	return istio.DefaultPolicyFindings(ctx, cluster, i.Default.Policy, i.Namespace, pods, owned)
}

// foreseePolicy looks at the policy, with the probes that an apply would find.
func (i Intent) foreseePolicy(ctx context.Context, cluster *kube.Cluster, owned func(*unstructured.Unstructured) bool, findings *Findings) error {
	var err error
	if i.DependsOnProbes() {
		if i.Probes, err = Probes(ctx, cluster, i.Namespace, i.Pods); err != nil {
			return err
		}
	}
	if findings.Policy, err = i.Mesh.authorizer().AuthorizationFindings(ctx, cluster, i.Policy, owned); err != nil {
		return err
	}
	findings.Callers = map[int][]string{}
	for n, grant := range i.Grants {
		missing, err := access.MissingCallers(ctx, cluster, access.Policy{Grants: []access.Grant{grant}})
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			findings.Callers[n] = missing
			findings.Policy = slices.DeleteFunc(findings.Policy, func(line string) bool { return slices.Contains(missing, line) })
		}
	}
	return nil
}

// unreached says which pods that are meant nothing is enforced for.
func (i Intent) unreached(ctx context.Context, cluster *kube.Cluster) ([]string, error) {
	var pods []*corev1.Pod
	var err error
	whose := "Namespace " + i.Namespace
	switch {
	case i.Default != nil && i.target().Kind != kube.Namespace:
		whose = i.target().String()
		pods, err = cluster.PodsOf(ctx, i.target())
	default:
		pods, err = selected(ctx, cluster, i.Namespace, i.Pods)
	}
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		if len(i.Pods) > 0 {
			return []string{fmt.Sprintf("no pod of %s has the labels %s: until one has, this is about nothing", whose, labels.Set(i.Pods))}, nil
		}
		return nil, nil
	}
	var outside []string
	count := 0
	for _, pod := range pods {
		if i.meshed(pod) {
			continue
		}
		count++
		owner, err := cluster.OwnerOf(ctx, pod)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(outside, owner.String()) {
			outside = append(outside, owner.String())
		}
	}
	if count == 0 {
		return nil, nil
	}
	return []string{fmt.Sprintf("%d of %d pods are not in %s, and let everybody in: those of %s", count, len(pods), i.Mesh.name(), strings.Join(outside, ", "))}, nil
}

func (i Intent) meshed(pod *corev1.Pod) bool {
	return slices.ContainsFunc(injections(), func(m mesh.Mesh) bool { return m.Name() == i.Mesh.name() && m.Proxy(pod).Mode != "" })
}
