package istio

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const namespace = "istio-system"

func podWith(container corev1.Container, volumes ...corev1.Volume) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "istiod-0", UID: "uid", Labels: map[string]string{"app": "istiod"}},
		Spec: corev1.PodSpec{
			NodeName:           "aks-nodepool1-0",
			ServiceAccountName: "istiod",
			Containers:         []corev1.Container{container},
			Volumes:            volumes,
		},
	}
}

func secretVolume(name string, optional bool) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: name, Optional: &optional},
	}}
}

func secret(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
}

// eventually fails the test unless path holds want, or does not exist if want
// is empty, within a few seconds.
func eventually(t *testing.T, path, want string) {
	t.Helper()
	var got string
	err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, 5*time.Second, true, func(context.Context) (bool, error) {
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		got = string(data)
		return got == want, nil
	})
	if err != nil {
		t.Fatalf("%s holds %q, want %q: %v", path, got, want, err)
	}
}

func TestMountFollowsSecret(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	// A fake client loses what happens between its list and its watch.
	watching := make(chan struct{})
	var once sync.Once
	client.PrependWatchReactor("secrets", func(a clienttesting.Action) (bool, watch.Interface, error) {
		w, err := client.Tracker().Watch(a.GetResource(), a.GetNamespace())
		once.Do(func() { close(watching) })
		return true, w, err
	})
	container := corev1.Container{VolumeMounts: []corev1.VolumeMount{{Name: "cacerts", MountPath: "/etc/cacerts"}}}
	root := t.TempDir()
	m, err := mount(t.Context(), client, slog.New(slog.DiscardHandler), podWith(container, secretVolume("cacerts", true)), &container, root, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	dir := filepath.Join(root, "etc/cacerts")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Fatalf("volume of an absent optional Secret holds %v, %v", entries, err)
	}
	<-watching

	secrets := client.CoreV1().Secrets(namespace)
	if _, err := secrets.Create(t.Context(), secret("cacerts", map[string][]byte{"a.pem": []byte("1"), "b.pem": []byte("1")}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, filepath.Join(dir, "a.pem"), "1")
	if _, err := secrets.Update(t.Context(), secret("cacerts", map[string][]byte{"a.pem": []byte("2")}), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, filepath.Join(dir, "a.pem"), "2")
	eventually(t, filepath.Join(dir, "b.pem"), "")
	if err := secrets.Delete(t.Context(), "cacerts", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, filepath.Join(dir, "a.pem"), "")
}

func TestMountProjects(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "kube-root-ca.crt"},
		Data:       map[string]string{"ca.crt": "root", "other": "x"},
	})
	client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := a.(clienttesting.CreateActionImpl)
		if !ok || create.GetSubresource() != "token" {
			return false, nil, nil
		}
		request, ok := create.GetObject().(*authenticationv1.TokenRequest)
		if !ok {
			return false, nil, nil
		}
		return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{
			Token: create.Name + " for " + strings.Join(request.Spec.Audiences, ",") + " in " + request.Spec.BoundObjectRef.Name,
		}}, nil
	})
	container := corev1.Container{VolumeMounts: []corev1.VolumeMount{
		{Name: "api", MountPath: serviceAccountDir}, {Name: "tmp", MountPath: "/tmp"},
	}}
	pod := podWith(container,
		corev1.Volume{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		corev1.Volume{Name: "api", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "istio-ca"}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "sub/ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
			}}},
		}}}})
	root := t.TempDir()
	m, err := mount(t.Context(), client, slog.New(slog.DiscardHandler), pod, &container, root, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	dir := filepath.Join(root, serviceAccountDir)
	for name, want := range map[string]string{
		"token":      "istiod for istio-ca in istiod-0",
		"sub/ca.crt": "root",
		"other":      "",
		"namespace":  namespace,
	} {
		eventually(t, filepath.Join(dir, name), want)
	}
	if info, err := os.Stat(filepath.Join(root, "tmp")); err != nil || !info.IsDir() {
		t.Errorf("emptyDir is %v, %v", info, err)
	}
}

func TestMountNeedsObjects(t *testing.T) {
	t.Parallel()
	container := corev1.Container{Name: "discovery", VolumeMounts: []corev1.VolumeMount{{Name: "certs", MountPath: "/certs"}}}
	_, err := mount(t.Context(), fake.NewClientset(), slog.New(slog.DiscardHandler), podWith(container, secretVolume("certs", false)), &container, t.TempDir(), time.Millisecond)
	const want = "volume certs of container discovery: Secret istio-system/certs does not exist"
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}
