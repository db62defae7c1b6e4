package istio_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
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
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/charts"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/cluster"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	system   = "istio-system"
	injector = "istio-sidecar-injector"
	webhooks = 15017
)

// recorder remembers the instances of a program, to look at them from within.
type recorder struct {
	program.Program

	mu        sync.Mutex
	instances map[string]program.Instance
}

func (r *recorder) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	i, err := r.Program.Start(ctx, env, pod)
	if err == nil {
		r.mu.Lock()
		r.instances[pod.Labels["istio.io/rev"]] = i
		r.mu.Unlock()
	}
	return i, err
}

// instance is the youngest istiod of a revision.
func (r *recorder) instance(revision string) program.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.instances[revision]
}

// world is a cluster and what a test does with it.
type world struct {
	*testing.T
	cluster *cluster.Cluster
	client  kubernetes.Interface
	istiod  *recorder
	charts  []charts.Archive
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
	programs := istio.Programs(func(ctx context.Context) (string, error) {
		paths, err := builder.Build(ctx, binaries.Istiod)
		if err != nil {
			return "", err
		}
		return paths[0], nil
	})
	istiod := &recorder{Program: programs[0], instances: map[string]program.Instance{}}
	c, err := cluster.Start(t.Context(), cluster.Options{
		Binaries: builder,
		Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		Programs: []program.Program{istiod},
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
	archives, err := istio.Charts()
	if err != nil {
		t.Fatal(err)
	}
	return world{T: t, cluster: c, client: client, istiod: istiod, charts: archives}
}

// run runs a part of the test.
func (w world) run(name string, part func(w world)) {
	w.Run(name, func(t *testing.T) {
		w.T = t
		part(w)
	})
}

// eventually fails the test unless met becomes true within a minute, which
// only a broken cluster needs.
func (w world) eventually(what string, met func(context.Context) (bool, error)) {
	w.Helper()
	if err := wait.PollUntilContextTimeout(w.Context(), 20*time.Millisecond, time.Minute, true, met); err != nil {
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

// helm returns a chart of Istio and access to the releases of a namespace.
func (w world) helm(name, version, namespace string) (*chart.Chart, *action.Configuration) {
	w.Helper()
	i := slices.IndexFunc(w.charts, func(a charts.Archive) bool { return a.Name == name && a.Version == version })
	if i < 0 {
		w.Fatalf("no chart %s %s", name, version)
	}
	c, err := w.charts[i].Chart()
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
	configuration := new(action.Configuration)
	if err := configuration.Init(flags, namespace, "", func(string, ...any) {}); err != nil {
		w.Fatal(err)
	}
	return c, configuration
}

func (w world) install(name, version, release, namespace string, values map[string]any) {
	w.Helper()
	c, configuration := w.helm(name, version, namespace)
	install := action.NewInstall(configuration)
	install.ReleaseName, install.Namespace = release, namespace
	if _, err := install.RunWithContext(w.Context(), c, values); err != nil {
		w.Fatal(err)
	}
}

func (w world) upgrade(name, version, release, namespace string) {
	w.Helper()
	c, configuration := w.helm(name, version, namespace)
	upgrade := action.NewUpgrade(configuration)
	upgrade.Namespace = namespace
	// Plain reuse would bring back the defaults of the old chart, which are
	// values like any other in Istio's charts, and the old images with them.
	upgrade.ResetThenReuseValues = true
	if _, err := upgrade.RunWithContext(w.Context(), release, c, nil); err != nil {
		w.Fatal(err)
	}
}

// rolledOut waits until all replicas of a Deployment are available and of its
// newest template.
func (w world) rolledOut(namespace, name string) {
	w.Helper()
	w.eventually("Deployment "+namespace+"/"+name+" is rolled out", func(ctx context.Context) (bool, error) {
		d, err := w.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		s := d.Status
		return s.ObservedGeneration == d.Generation && s.Replicas == 1 && s.UpdatedReplicas == 1 &&
			slices.ContainsFunc(s.Conditions, func(c appsv1.DeploymentCondition) bool {
				return c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue
			}), nil
	})
}

// tryPod has the API server admit a pod without keeping it.
func (w world) tryPod(ctx context.Context, namespace string) (*corev1.Pod, error) {
	return w.client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// proxy is the native sidecar that a pod gets in a namespace.
func (w world) proxy(namespace string) (*corev1.Pod, corev1.Container) {
	w.Helper()
	pod, err := w.tryPod(w.Context(), namespace)
	if err != nil {
		w.Fatal(err)
	}
	for _, c := range pod.Spec.InitContainers {
		if c.Name == "istio-proxy" && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			return pod, c
		}
	}
	w.Fatalf("no sidecar among the init containers %v", pod.Spec.InitContainers)
	return nil, corev1.Container{}
}

// An authority is a certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

// issue makes an authority for which signer vouches, or that vouches for
// itself if signer is nil.
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

// secret is what plugs issuer, signed by root, into Istio.
func secret(t *testing.T, root, issuer *authority) *corev1.Secret {
	t.Helper()
	key, err := x509.MarshalECPrivateKey(issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "cacerts"}, Data: map[string][]byte{
		"ca-cert.pem":    issuer.pem,
		"ca-key.pem":     pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
		"cert-chain.pem": issuer.pem,
		"root-cert.pem":  root.pem,
	}}
}

// signedBy is the name of the authority that signed the certificate with which
// an instance serves its webhooks, which must lead to root.
func signedBy(ctx context.Context, i program.Instance, root *authority) (name string, err error) {
	raw, err := i.Dial(ctx, webhooks)
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root.certificate)
	conn := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "istiod.istio-system.svc"})
	defer func() { err = closing(conn, err) }()
	if err := conn.HandshakeContext(ctx); err != nil {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].Issuer.CommonName, nil
}

func closing(conn *tls.Conn, err error) error {
	if closeErr := conn.Close(); err == nil {
		err = closeErr
	}
	return err
}

// TestIstiod takes one cluster through the life of a control plane, because
// starting a cluster takes longer than all that is looked at.
func TestIstiod(t *testing.T) {
	t.Parallel()
	w := start(t)
	root := issue(t, "root", nil)
	w.namespace(system, nil)
	if _, err := w.client.CoreV1().Secrets(system).Create(t.Context(), secret(t, root, issue(t, "first", root)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.install("base", istio.PreviousVersion, "istio-base", system, nil)
	w.install("istiod", istio.PreviousVersion, "istiod", system, map[string]any{
		"meshConfig": map[string]any{"trustDomain": "example.org"},
		"global":     map[string]any{"logging": map[string]any{"level": "default:warn"}},
	})
	w.rolledOut(system, "istiod")
	w.namespace("app", map[string]string{"istio-injection": "enabled"})

	w.run("distributes the root", func(w world) {
		w.eventually("ConfigMap app/istio-ca-root-cert", func(ctx context.Context) (bool, error) {
			config, err := w.client.CoreV1().ConfigMaps("app").Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return err == nil && config.Data["root-cert.pem"] == string(root.pem), err
		})
		w.eventually("MutatingWebhookConfiguration "+injector, func(ctx context.Context) (bool, error) {
			hook, err := w.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, injector, metav1.GetOptions{})
			return err == nil && bytes.Equal(hook.Webhooks[0].ClientConfig.CABundle, root.pem), err
		})
	})

	w.run("injects", func(w world) {
		pod, proxy := w.proxy("app")
		if want := "registry.istio.io/release/proxyv2:" + istio.PreviousVersion; proxy.Image != want {
			w.Errorf("image of the proxy is %s, want %s", proxy.Image, want)
		}
		if !slices.Contains(proxy.Env, corev1.EnvVar{Name: "TRUST_DOMAIN", Value: "example.org"}) {
			w.Errorf("the mesh configuration of the chart is not in force: %v", proxy.Env)
		}
		if pod.Annotations["sidecar.istio.io/status"] == "" || pod.Labels["security.istio.io/tlsMode"] != "istio" {
			w.Errorf("annotations are %v, labels %v", pod.Annotations, pod.Labels)
		}
	})

	w.run("injects gateways", func(w world) {
		w.namespace("ingress", nil)
		w.install("gateway", istio.PreviousVersion, "istio-ingressgateway", "ingress", nil)
		w.rolledOut("ingress", "istio-ingressgateway")
		pods, err := w.client.CoreV1().Pods("ingress").List(w.Context(), metav1.ListOptions{LabelSelector: "istio=ingressgateway"})
		if err != nil {
			w.Fatal(err)
		}
		if len(pods.Items) != 1 || pods.Items[0].Spec.Containers[0].Image != "registry.istio.io/release/proxyv2:"+istio.PreviousVersion {
			w.Errorf("gateway pods are %v", pods.Items)
		}
	})

	w.run("validates", func(w world) {
		client, err := dynamic.NewForConfig(w.cluster.Config())
		if err != nil {
			w.Fatal(err)
		}
		services := client.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"})
		invalid := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
			"metadata": map[string]any{"name": "invalid"},
			"spec":     map[string]any{"hosts": []any{"*"}, "gateways": []any{"mesh"}},
		}}
		// Istiod makes the webhook binding some time after it started.
		w.eventually("an invalid VirtualService is refused", func(ctx context.Context) (bool, error) {
			_, err := services.Namespace("app").Create(ctx, invalid, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err != nil && strings.Contains(err.Error(), "wildcard host * is not allowed for virtual services bound to the mesh gateway"), nil
		})
	})

	w.run("reloads its issuer", func(w world) {
		serving := func(want string) func(context.Context) (bool, error) {
			return func(ctx context.Context) (bool, error) {
				name, err := signedBy(ctx, w.istiod.instance("default"), root)
				return name == want, err
			}
		}
		w.eventually("istiod serves with a certificate of the first issuer", serving("first"))
		if _, err := w.client.CoreV1().Secrets(system).Update(w.Context(), secret(w.T, root, issue(w.T, "second", root)), metav1.UpdateOptions{}); err != nil {
			w.Fatal(err)
		}
		w.eventually("istiod serves with a certificate of the second issuer", serving("second"))
	})

	w.run("runs beside another revision", func(w world) {
		w.install("istiod", istio.Version, "istiod-canary", system, map[string]any{"revision": "canary"})
		w.rolledOut(system, "istiod-canary")
		w.namespace("canary", map[string]string{"istio.io/rev": "canary"})
		pod, proxy := w.proxy("canary")
		if got := pod.Annotations["istio.io/rev"]; got != "canary" || proxy.Image != "registry.istio.io/release/proxyv2:"+istio.Version {
			w.Errorf("pod is of revision %q with image %s", got, proxy.Image)
		}
	})

	w.run("says why it does not start", func(w world) {
		const namespace = "broken"
		w.namespace(namespace, nil)
		incomplete := secret(w.T, root, root)
		delete(incomplete.Data, "cert-chain.pem")
		if _, err := w.client.CoreV1().Secrets(namespace).Create(w.Context(), incomplete, metav1.CreateOptions{}); err != nil {
			w.Fatal(err)
		}
		w.install("istiod", istio.Version, "istiod", namespace, map[string]any{
			"revision": "broken", "global": map[string]any{"istioNamespace": namespace},
		})
		var last string
		w.eventually("the pod of istiod waits", func(ctx context.Context) (bool, error) {
			pods, err := w.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			last = fmt.Sprint(pods.Items)
			return strings.Contains(last, "incomplete signing CA bundle detected"), nil
		})
	})

	w.run("is upgraded", func(w world) {
		old := w.istiod.instance("default")
		w.upgrade("base", istio.Version, "istio-base", system)
		w.upgrade("istiod", istio.Version, "istiod", system)
		w.rolledOut(system, "istiod")
		if _, proxy := w.proxy("app"); proxy.Image != "registry.istio.io/release/proxyv2:"+istio.Version {
			w.Errorf("image of the proxy is %s", proxy.Image)
		}
		w.eventually("the former istiod is gone", func(ctx context.Context) (bool, error) {
			conn, err := old.Dial(ctx, webhooks)
			if err != nil {
				return true, nil //nolint:nilerr // This is what is waited for.
			}
			return false, conn.Close()
		})
	})

	w.run("is missed", func(w world) {
		if err := w.client.AppsV1().Deployments(system).Delete(w.Context(), "istiod", metav1.DeleteOptions{}); err != nil {
			w.Fatal(err)
		}
		w.eventually("pods that must be injected are refused", func(ctx context.Context) (bool, error) {
			_, err := w.tryPod(ctx, "app")
			return err != nil && strings.Contains(err.Error(), "failed calling webhook"), nil
		})
	})
}
