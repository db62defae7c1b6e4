package istio_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/binaries"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/cluster"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/istio"
)

const system = "istio-system"

// world is a cluster and what the test does with it.
type world struct {
	*testing.T
	cluster *cluster.Cluster
	client  kubernetes.Interface
}

func start(t *testing.T) world {
	t.Helper()
	goMod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	goSum, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	builder := binaries.Builder{GoMod: goMod, GoSum: goSum, Progress: t.Output()}
	c, err := cluster.Start(t.Context(), cluster.Options{
		Binaries: builder,
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		Programs: istio.Programs(func(ctx context.Context) (string, error) {
			paths, err := builder.Build(ctx, binaries.Istiod)
			if err != nil {
				return "", err
			}
			return paths[0], nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	return world{T: t, cluster: c, client: client}
}

// eventually fails the test unless met becomes true within a minute, a time
// that only a broken cluster needs.
func (w world) eventually(what string, met func(context.Context) (bool, error)) {
	w.Helper()
	if err := wait.PollUntilContextTimeout(w.Context(), 25*time.Millisecond, time.Minute, true, met); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

func (w world) namespace(name string, labels map[string]string) {
	w.Helper()
	_, err := w.client.CoreV1().Namespaces().Create(w.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
}

// install installs a chart as release in namespace.
func (w world) install(chart, release, namespace string, values map[string]any) {
	w.Helper()
	archives, err := istio.Charts()
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range archives {
		if a.Name != chart || a.Version != istio.Version {
			continue
		}
		c, err := a.Chart()
		if err != nil {
			w.Fatal(err)
		}
		path := w.cluster.Info().Kubeconfig
		flags := genericclioptions.NewConfigFlags(false)
		flags.KubeConfig, flags.Namespace = &path, &namespace
		flags.WrapConfigFn = func(c *rest.Config) *rest.Config {
			c.QPS = -1
			return c
		}
		var configuration action.Configuration
		if err := configuration.Init(flags, namespace, "", w.Logf); err != nil {
			w.Fatal(err)
		}
		install := action.NewInstall(&configuration)
		install.ReleaseName, install.Namespace = release, namespace
		if _, err := install.RunWithContext(w.Context(), c, values); err != nil {
			w.Fatal(err)
		}
		return
	}
	w.Fatalf("no chart %s", chart)
}

// available waits until a Deployment has the replicas it wants.
func (w world) available(namespace, name string) {
	w.Helper()
	w.eventually("Deployment "+namespace+"/"+name+" is available", func(ctx context.Context) (bool, error) {
		d, err := w.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
			return c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue
		}), nil
	})
}

func (w world) createPod(namespace, name string) (*corev1.Pod, error) {
	return w.client.CoreV1().Pods(namespace).Create(w.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}, metav1.CreateOptions{})
}

// issue makes a certificate authority for which signer vouches, or that
// vouches for itself if signer is nil, as PEM certificate and key.
func issue(t *testing.T, name string, signer *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, certificate: &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}}
	if signer == nil {
		signer = a
	}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, signer.certificate, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func (a *authority) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// TestIstiod takes one cluster through the life of a control plane, because
// starting one costs more than all that is looked at.
func TestIstiod(t *testing.T) {
	t.Parallel()
	w := start(t)
	root := issue(t, "root", nil)
	issuer := issue(t, "issuer", root)

	w.namespace(system, nil)
	_, err := w.client.CoreV1().Secrets(system).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "cacerts"},
		Data: map[string][]byte{
			"ca-cert.pem":    issuer.pem,
			"ca-key.pem":     issuer.keyPEM(t),
			"cert-chain.pem": issuer.pem,
			"root-cert.pem":  root.pem,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.install("base", "istio-base", system, nil)
	w.install("istiod", "istiod", system, map[string]any{
		"meshConfig": map[string]any{"trustDomain": "example.org"},
		"global":     map[string]any{"logging": map[string]any{"level": "default:warn"}},
	})
	w.available(system, "istiod")
	w.namespace("app", map[string]string{"istio-injection": "enabled"})

	t.Run("certificate authority", func(t *testing.T) {
		w := world{t, w.cluster, w.client}
		w.eventually("ConfigMap app/istio-ca-root-cert holds the plugged-in root", func(ctx context.Context) (bool, error) {
			config, err := w.client.CoreV1().ConfigMaps("app").Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil && config.Data["root-cert.pem"] == string(root.pem), err
		})
		w.eventually("the injector is trusted by the plugged-in root", func(ctx context.Context) (bool, error) {
			hook, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "istio-sidecar-injector", metav1.GetOptions{})
			return err == nil && bytes.Equal(hook.Webhooks[0].ClientConfig.CABundle, root.pem), err
		})
	})

	t.Run("injection", func(t *testing.T) {
		w := world{t, w.cluster, w.client}
		pod, err := w.createPod("app", "injected")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "istio-proxy" })
		if i < 0 {
			t.Fatalf("init containers are %v", pod.Spec.InitContainers)
		}
		proxy := pod.Spec.InitContainers[i]
		if proxy.RestartPolicy == nil || *proxy.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			t.Errorf("the proxy is not a sidecar: restart policy %v", proxy.RestartPolicy)
		}
		if want := "registry.istio.io/release/proxyv2:" + istio.Version; proxy.Image != want {
			t.Errorf("image of the proxy is %s, want %s", proxy.Image, want)
		}
		trustDomain := slices.IndexFunc(proxy.Env, func(e corev1.EnvVar) bool { return e.Name == "TRUST_DOMAIN" })
		if trustDomain < 0 || proxy.Env[trustDomain].Value != "example.org" {
			t.Errorf("the mesh configuration of the chart is not in force: %v", proxy.Env)
		}
		if pod.Annotations["sidecar.istio.io/status"] == "" || pod.Labels["security.istio.io/tlsMode"] != "istio" {
			t.Errorf("annotations %v, labels %v", pod.Annotations, pod.Labels)
		}
	})

	t.Run("gateway", func(t *testing.T) {
		w := world{t, w.cluster, w.client}
		w.namespace("ingress", nil)
		w.install("gateway", "istio-ingressgateway", "ingress", nil)
		w.available("ingress", "istio-ingressgateway")
		pods, err := w.client.CoreV1().Pods("ingress").List(t.Context(), metav1.ListOptions{LabelSelector: "istio=ingressgateway"})
		if err != nil {
			t.Fatal(err)
		}
		if len(pods.Items) != 1 || pods.Items[0].Spec.Containers[0].Image != "registry.istio.io/release/proxyv2:"+istio.Version {
			t.Errorf("gateway pods are %v", pods.Items)
		}
	})

	t.Run("validation", func(t *testing.T) {
		w := world{t, w.cluster, w.client}
		client, err := dynamic.NewForConfig(w.cluster.Config())
		if err != nil {
			t.Fatal(err)
		}
		services := client.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}).Namespace("app")
		invalid := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
			"metadata": map[string]any{"name": "invalid"},
			"spec":     map[string]any{"hosts": []any{"*"}, "gateways": []any{"mesh"}},
		}}
		w.eventually("an invalid VirtualService is refused", func(ctx context.Context) (bool, error) {
			_, err := services.Create(ctx, invalid, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err != nil && strings.Contains(err.Error(), "validation.istio.io"), nil
		})
	})

	t.Run("deletion", func(t *testing.T) {
		w := world{t, w.cluster, w.client}
		if err := w.client.AppsV1().Deployments(system).Delete(t.Context(), "istiod", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		w.eventually("pods that must be injected are refused", func(ctx context.Context) (bool, error) {
			_, err := w.client.CoreV1().Pods("app").Create(ctx, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "refused"},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
			}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err != nil && strings.Contains(err.Error(), "istio.io"), nil
		})
	})
}
