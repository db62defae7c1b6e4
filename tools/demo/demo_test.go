package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
)

func TestDescribeIngress(t *testing.T) {
	t.Parallel()

	port := intstr.FromInt32(4143)
	client := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "client"}}

	tests := map[string][]networkingv1.NetworkPolicyIngressRule{
		"admits nothing":                   nil,
		"admits every port from everyone":  {{}},
		"admits 4143 from pods app=client": {{Ports: []networkingv1.NetworkPolicyPort{{Port: &port}}, From: []networkingv1.NetworkPolicyPeer{{PodSelector: client}}}},
		"admits every port from pods app=client in all namespaces or 10.0.0.0/8": {{From: []networkingv1.NetworkPolicyPeer{
			{PodSelector: client, NamespaceSelector: &metav1.LabelSelector{}},
			{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8"}},
		}}},
	}

	for want, rules := range tests {
		if got := describeIngress(rules); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestCountMeshedSeesNativeSidecars(t *testing.T) {
	t.Parallel()

	always := corev1.ContainerRestartPolicyAlways
	proxy := corev1.Container{Name: "istio-proxy"}
	native := corev1.Container{Name: "istio-proxy", RestartPolicy: &always}

	pods := []corev1.Pod{
		{Spec: corev1.PodSpec{Containers: []corev1.Container{proxy}}},
		{Spec: corev1.PodSpec{InitContainers: []corev1.Container{native}}},
		{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "alpha"}}}},
	}

	if got := countMeshed(istio.Injection{}, pods); got != 2 {
		t.Errorf("%d of 3 pods count as meshed, want 2", got)
	}
}

func TestCopyConfigurations(t *testing.T) {
	t.Parallel()

	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")

	if err := copyConfigurations(filepath.Join(from, "absent"), to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no directory: got %v, want that nothing is there", err)
	}

	for _, name := range []string{"demo/main.tf", "demo/terraform.tfstate", "demo/.terraform/modules.tf", "app/app.yaml"} {
		if err := os.MkdirAll(filepath.Join(from, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(filepath.Join(from, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if err := copyConfigurations(from, to); err != nil {
		t.Fatal(err)
	}

	var copied []string

	err := fs.WalkDir(os.DirFS(to), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			copied = append(copied, name)
		}

		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	if want := []string{"app/app.yaml", "demo/main.tf"}; !slices.Equal(copied, want) {
		t.Errorf("copied %v, want %v", copied, want)
	}
}
