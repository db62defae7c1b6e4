package linkerd

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestNodesOf(t *testing.T) {
	t.Parallel()
	rolling := func(lacking, onTop string) appsv1.DeploymentStrategy {
		unavailable, surge := intstr.Parse(lacking), intstr.Parse(onTop)
		return appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &unavailable, MaxSurge: &surge}}
	}
	for name, c := range map[string]struct {
		replicas      int32
		strategy      appsv1.DeploymentStrategy
		component     string
		pods, surplus int
	}{
		"a quarter of three is none":  {3, appsv1.DeploymentStrategy{}, "tap", 3, 1},
		"a quarter of four is one":    {4, appsv1.DeploymentStrategy{}, "tap", 4, 0},
		"one may lack":                {3, rolling("1", "25%"), "tap", 3, 0},
		"none on top":                 {3, rolling("0", "0"), "tap", 3, 0},
		"half may lack":               {3, rolling("50%", "1"), "tap", 3, 0},
		"no rolling":                  {3, appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, "tap", 3, 0},
		"kept apart from others only": {3, appsv1.DeploymentStrategy{}, "web", 0, 0},
	} {
		d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &c.replicas, Strategy: c.strategy}}
		d.Spec.Template.Labels = map[string]string{"component": c.component}
		d.Spec.Template.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"component": "tap"}}, TopologyKey: corev1.LabelHostname,
			}},
		}}
		if pods, surplus := nodesOf(d); pods != c.pods || surplus != c.surplus {
			t.Errorf("%s: %d and %d nodes, want %d and %d", name, pods, surplus, c.pods, c.surplus)
		}
	}
	if pods, surplus := nodesOf(&appsv1.Deployment{}); pods+surplus != 0 {
		t.Errorf("pods that may be anywhere: %d and %d nodes", pods, surplus)
	}
}

// What an extension has from its control plane is foreseen as long as it stays.
func TestSameDomains(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	for name, c := range map[string]struct {
		own, values, recorded m
		same                  bool
	}{
		"none":            {nil, m{}, m{}, true},
		"as before":       {nil, m{"clusterDomain": "a.b"}, m{"clusterDomain": "a.b"}, true},
		"another":         {nil, m{"clusterDomain": "a.b"}, m{"clusterDomain": "c.d"}, false},
		"no longer":       {nil, m{}, m{"identityTrustDomain": "c.d"}, false},
		"the user's word": {m{"clusterDomain": "a.b"}, m{"clusterDomain": "a.b"}, m{}, true},
	} {
		if same := sameDomains(ExtensionSpecification{Values: c.own}, c.values, c.recorded); same != c.same {
			t.Errorf("%s: %v", name, same)
		}
	}
}
