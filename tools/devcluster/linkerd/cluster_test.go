package linkerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/clustertest"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	systemNamespace  = "linkerd"
	injectorName     = "linkerd-proxy-injector"
	controlPlaneName = "linkerd-control-plane"

	// What the control plane starts with.
	firstRoot   = "root.linkerd.cluster.local"
	firstIssuer = "identity.linkerd.cluster.local"
)

// controllers are the Deployments of the control plane.
var controllers = []string{"linkerd-identity", "linkerd-destination", injectorName}

// hash is how a pod shows the anchors it was injected with.
func hash(bundle string) string {
	sum := sha256.Sum256([]byte(bundle))
	return hex.EncodeToString(sum[:])
}

// publishAnchors changes the trust bundle and waits until pods are injected
// with it.
func publishAnchors(w clustertest.World, bundle string) {
	w.Helper()
	_, err := w.Client.CoreV1().ConfigMaps(systemNamespace).
		Update(w.Context(), configMapOf("linkerd-identity-trust-roots", map[string]string{"ca-bundle.crt": bundle}), metav1.UpdateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	w.Eventually("pods get the other roots", func(ctx context.Context) (bool, error) {
		pod, err := w.TryPod(ctx, "app", nil)
		return err == nil && pod.Annotations[trustRootAnnotation] == hash(bundle), err
	})
}

// publishIssuer changes the issuer.
func publishIssuer(w clustertest.World, issuer *authority) {
	w.Helper()
	_, err := w.Client.CoreV1().Secrets(systemNamespace).Update(w.Context(), secretOf("linkerd-identity-issuer", map[string]string{
		"crt.pem": issuer.certificatePEM(), "key.pem": issuer.keyPEM(w.T, pkcs8Type),
	}), metav1.UpdateOptions{})
	if err != nil {
		w.Fatal(err)
	}
}

// awaitEvent waits until the Deployment has an event.
func awaitEvent(w clustertest.World, namespace, deployment, reason, message string) {
	w.Helper()
	w.Eventually("event "+reason, func(ctx context.Context) (bool, error) {
		list, err := w.Client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		return err == nil && slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
			return e.InvolvedObject.Kind == "Deployment" && e.InvolvedObject.Name == deployment &&
				e.Reason == reason && strings.Contains(e.Message, message)
		}), err
	})
}

// admitted is a pod as the API server admits it.
func admitted(w clustertest.World, namespace string) *corev1.Pod {
	w.Helper()
	pod, err := w.TryPod(w.Context(), namespace, nil)
	if err != nil {
		w.Fatal(err)
	}
	return pod
}

// controlPlane is a cluster with a Linkerd of the version before the newest and
// an injected namespace app.
func controlPlane(t *testing.T) (clustertest.World, *authority) {
	t.Helper()
	archives, err := Charts()
	if err != nil {
		t.Fatal(err)
	}
	w := clustertest.Start(t, Programs(), []program.Proxy{Proxy{}}, archives)
	root := newAuthority(t, firstRoot, nil, true)
	issuer := newAuthority(t, firstIssuer, root, true)
	w.Namespace(systemNamespace, map[string]string{"config.linkerd.io/admission-webhooks": disabled}, nil)
	const version = "2026.6.3"
	w.Install(CRDsChart, version, CRDsChart, systemNamespace, nil)
	w.Install(ControlPlaneChart, version, controlPlaneName, systemNamespace, map[string]any{
		"disableHeartBeat":        true,
		"identityTrustAnchorsPEM": root.certificatePEM(),
		"identity": map[string]any{"issuer": map[string]any{
			// So that certificates are soon due, but do not expire on a busy machine.
			"issuanceLifetime": "5s", "clockSkewAllowance": "5s",
			"tls": map[string]any{"crtPEM": issuer.certificatePEM(), "keyPEM": issuer.keyPEM(t, pkcs8Type)},
		}},
	})
	for _, name := range controllers {
		w.RolledOut(systemNamespace, name)
	}
	w.Namespace("app", nil, map[string]string{injectAnnotation: enabled})
	return w, root
}

// TestControlPlane takes one cluster through the life of a control plane,
// because starting a cluster takes longer than all that is looked at.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	w, root := controlPlane(t)

	w.Part("injects", func(w clustertest.World) {
		w.Deploy("app", "meshed", nil)
		awaitEvent(w, "app", "meshed", "Injected", "Linkerd sidecar proxy injected")
		pod := admitted(w, "app")
		if pod.Annotations[createdByAnnotation] != "linkerd/proxy-injector edge-26.6.3" {
			w.Errorf("annotations %v", pod.Annotations)
		}
	})

	w.Part("says why it does not inject", func(w clustertest.World) {
		w.Namespace("plain", nil, nil)
		w.Deploy("plain", "unmeshed", nil)
		awaitEvent(w, "plain", "unmeshed", "InjectionSkipped", "neither the namespace nor the pod have the annotation")
	})

	w.Part("follows the namespace in how it injects", func(w clustertest.World) {
		const native = configPrefix + "proxy-enable-native-sidecar"
		for value, list := range map[string]string{"true": "init containers", "false": "containers"} {
			namespace := "native-" + value
			w.Namespace(namespace, nil, map[string]string{injectAnnotation: enabled, native: value})
			pod := admitted(w, namespace)
			containers := pod.Spec.Containers
			if value == "true" {
				containers = pod.Spec.InitContainers
			}
			if !slices.ContainsFunc(containers, func(c corev1.Container) bool { return c.Name == proxyContainer }) {
				w.Errorf("native %s: no proxy among the %s of %+v", value, list, pod.Spec)
			}
			if pod.Annotations[native] != value {
				w.Errorf("annotations %v", pod.Annotations)
			}
		}
	})

	w.Part("is not asked for some namespaces", func(w clustertest.World) {
		w.Namespace("exempt", map[string]string{"config.linkerd.io/admission-webhooks": disabled}, map[string]string{injectAnnotation: enabled})
		w.Namespace("cert-manager", nil, map[string]string{injectAnnotation: enabled})
		for _, namespace := range []string{"exempt", "cert-manager"} {
			if pod := admitted(w, namespace); podenv.Container(pod, proxyContainer) != nil {
				w.Errorf("pods of namespace %s are injected", namespace)
			}
		}
	})

	w.Part("is stopped by Pod Security", func(w clustertest.World) {
		w.Namespace("baseline", map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}, map[string]string{injectAnnotation: enabled})
		_, err := w.TryPod(w.Context(), "baseline", nil)
		refused(w.T, err, `violates PodSecurity "baseline:latest": non-default capabilities (container "linkerd-init"`)
	})

	w.Part("certifies proxies", func(w clustertest.World) {
		const name = "default.app.serviceaccount.identity.linkerd.cluster.local"
		if got := w.Identity(w.Context(), "app", "meshed").Name; got != name {
			w.Errorf("the proxy is %s, want %s", got, name)
		}
		w.Identified("app", "meshed", firstIssuer, firstRoot)
		for _, name := range controllers {
			w.Identified(systemNamespace, name, firstIssuer, firstRoot)
		}
	})

	w.Part("stays when its successor has no image", func(w clustertest.World) {
		w.Upgrade(ControlPlaneChart, newest, controlPlaneName, systemNamespace, map[string]any{"controllerImageVersion": "does-not-exist"})
		for _, name := range controllers {
			w.Stuck(systemNamespace, name)
		}
		injectedAgain(w)
		w.Upgrade(ControlPlaneChart, "2026.6.3", controlPlaneName, systemNamespace, map[string]any{"controllerImageVersion": ""})
		for _, name := range controllers {
			w.RolledOut(systemNamespace, name)
		}
	})

	w.Part("is extended by viz", func(w clustertest.World) {
		const namespace = "linkerd-viz"
		w.Namespace(namespace, nil, nil)
		w.Install(VizChart, "2026.6.3", VizChart, namespace, nil)
		for _, name := range []string{"metrics-api", "prometheus", "tap", "tap-injector", "web"} {
			w.RolledOut(namespace, name)
		}
		labelled, err := w.Client.CoreV1().Namespaces().Get(w.Context(), namespace, metav1.GetOptions{})
		if err != nil || labelled.Labels[extensionLabel] != "viz" {
			w.Errorf("labels of the namespace %v: %v", labelled.Labels, err)
		}
		w.Eventually("the tap API is available", func(context.Context) (bool, error) {
			list, err := w.Client.Discovery().ServerResourcesForGroupVersion(tapVersion)
			return err == nil && len(list.APIResources) > 0, nil
		})
		w.Eventually("proxies serve taps", func(ctx context.Context) (bool, error) {
			pod, err := w.TryPod(ctx, "app", nil)
			if err != nil {
				return false, err
			}
			proxy := podenv.Container(pod, proxyContainer)
			return proxy != nil && pod.Annotations[tapAnnotation] == "true" &&
				slices.Contains(proxy.Env, corev1.EnvVar{Name: tapVariable, Value: "tap.linkerd-viz.serviceaccount.identity.linkerd.cluster.local"}), nil
		})
		pod, err := w.TryPod(w.Context(), "app", map[string]string{disableTapAnnotation: "true"})
		if err != nil || pod.Annotations[tapAnnotation] != "" {
			w.Errorf("a pod that must not be tapped: %v, %v", pod, err)
		}
	})

	w.Part("has a plugin on every node", func(w clustertest.World) {
		const namespace = "linkerd-cni"
		w.Namespace(namespace, nil, nil)
		w.Install(CNIChart, "2026.6.3", CNIChart, namespace, nil)
		w.Eventually("DaemonSet linkerd-cni is ready", func(ctx context.Context) (bool, error) {
			d, err := w.Client.AppsV1().DaemonSets(namespace).Get(ctx, "linkerd-cni", metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			return d.Status.DesiredNumberScheduled > 0 && d.Status.NumberReady == d.Status.DesiredNumberScheduled, nil
		})
	})

	w.Part("moves to another anchor", func(w clustertest.World) {
		const otherRoot, otherIssuer = "other root", "other issuer"
		other := newAuthority(w.T, otherRoot, nil, true)
		issuer := newAuthority(w.T, otherIssuer, other, true)
		if got, want := admitted(w, "app").Annotations[trustRootAnnotation], hash(strings.TrimSpace(root.certificatePEM())); got != want {
			w.Errorf("hash %s, want %s", got, want)
		}

		both := root.certificatePEM() + strings.TrimSpace(other.certificatePEM())
		publishAnchors(w, both)
		w.Restart("app", "meshed")
		w.Identified("app", "meshed", firstIssuer, firstRoot, otherRoot)

		// The anchors of an identity controller are those of its start.
		publishIssuer(w, issuer)
		awaitEvent(w, systemNamespace, "linkerd-identity", "IssuerUpdateSkipped", "failed to verify issuer credentials")
		w.Restart("app", "meshed")
		w.Identified("app", "meshed", firstIssuer, firstRoot, otherRoot)
		w.Restart(systemNamespace, "linkerd-identity")
		w.Identified(systemNamespace, "linkerd-identity", otherIssuer, firstRoot, otherRoot)

		// The first proxy is certified anew when its certificate is due. The
		// second would refuse the certificate, and keeps what it has.
		w.Eventually("the proxy has a certificate of the other issuer", func(ctx context.Context) (bool, error) {
			return w.Identity(ctx, "app", "meshed").Signer == otherIssuer, nil
		})
		w.Identified("app", "meshed", otherIssuer, firstRoot, otherRoot)
		w.Identified(systemNamespace, injectorName, firstIssuer, firstRoot)

		publishAnchors(w, strings.TrimSpace(other.certificatePEM()))
		for _, name := range controllers {
			w.Restart(systemNamespace, name)
			w.Identified(systemNamespace, name, otherIssuer, otherRoot)
		}
		w.Restart("app", "meshed")
		w.Identified("app", "meshed", otherIssuer, otherRoot)
	})

	w.Part("is not missed by a webhook that may fail", func(w clustertest.World) {
		w.Scale(systemNamespace, injectorName, 0)
		if pod := admitted(w, "app"); podenv.Container(pod, proxyContainer) != nil {
			w.Error("a pod is injected by nobody")
		}
		w.Scale(systemNamespace, injectorName, 1)
		injectedAgain(w)
	})

	w.Part("is upgraded", func(w clustertest.World) {
		w.Upgrade(CRDsChart, newest, CRDsChart, systemNamespace, nil)
		w.Upgrade(ControlPlaneChart, newest, controlPlaneName, systemNamespace, map[string]any{"webhookFailurePolicy": "Fail"})
		w.RolledOut(systemNamespace, injectorName)
		w.Eventually("pods get the new proxy", func(ctx context.Context) (bool, error) {
			pod, err := w.TryPod(ctx, "app", nil)
			if err != nil {
				return false, err
			}
			proxy := podenv.Container(pod, proxyContainer)
			if proxy == nil {
				return false, fmt.Errorf("pod is not injected: %+v", pod.Spec)
			}
			return proxy.Image == "cr.l5d.io/linkerd/proxy:edge-26.8.3" && pod.Annotations[proxyVersionAnnotation] == "edge-26.8.3", nil
		})
	})

	w.Part("is missed by a webhook that must not fail", func(w clustertest.World) {
		w.Scale(systemNamespace, injectorName, 0)
		_, err := w.TryPod(w.Context(), "app", nil)
		refused(w.T, err, `failed calling webhook "linkerd-proxy-injector.linkerd.io"`)
		if _, err := w.TryPod(w.Context(), "exempt", nil); err != nil {
			w.Errorf("a pod that it is not asked about: %v", err)
		}
		w.Scale(systemNamespace, injectorName, 1)
		injectedAgain(w)
	})
}

// injectedAgain waits until the API server reaches a new injector, of which its
// egress proxy learns a little after the Deployment's status.
func injectedAgain(w clustertest.World) {
	w.Helper()
	w.Eventually("pods are injected again", func(ctx context.Context) (bool, error) {
		pod, err := w.TryPod(ctx, "app", nil)
		return err == nil && podenv.Container(pod, proxyContainer) != nil, nil
	})
}
