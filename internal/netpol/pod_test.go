package netpol_test

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
)

func TestPodEndpoint(t *testing.T) {
	t.Parallel()
	web := corev1.ContainerPort{Name: "web", ContainerPort: 8080}
	proxy := corev1.ContainerPort{Name: "proxy", ContainerPort: 4143}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "db", Name: "alpha", Labels: map[string]string{"app": "alpha"}},
		Spec: corev1.PodSpec{
			HostNetwork: true,
			InitContainers: []corev1.Container{
				{Ports: []corev1.ContainerPort{{Name: "gone", ContainerPort: 1}}},
				{Ports: []corev1.ContainerPort{{Name: "gone", ContainerPort: 2}}, RestartPolicy: new(corev1.ContainerRestartPolicyOnFailure)},
				{Ports: []corev1.ContainerPort{proxy}, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
			},
			Containers: []corev1.Container{{}, {Ports: []corev1.ContainerPort{web}}},
		},
		Status: corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
	}
	want := netpol.Endpoint{
		Namespace: "db", NamespaceLabels: map[string]string{"team": "data"}, Name: "alpha", Labels: map[string]string{"app": "alpha"},
		IPs: addresses("10.0.0.1", "fd00::1"), Ports: []corev1.ContainerPort{web, proxy}, HostNetwork: true,
	}
	if got := netpol.PodEndpoint(map[string]string{"team": "data"}, pod); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	pod.Status.PodIPs = nil
	if got := netpol.PodEndpoint(nil, pod); len(got.IPs) != 0 {
		t.Errorf("a pod that is not running yet has the addresses %v", got.IPs)
	}
}
