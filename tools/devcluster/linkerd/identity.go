package linkerd

// This file stands in for Linkerd's identity controller (linkerd2 pkg/identity).

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// How the identity controller names the files of its issuer.
const (
	linkerdScheme    = "linkerd.io/tls"
	kubernetesScheme = "kubernetes.io/tls"
)

// identity certifies proxies. Like the real controller it starts only with an
// issuer that its trust anchors vouch for.
type identity struct {
	lag time.Duration
}

func (identity) Name() string { return "linkerd-identity" }

func (identity) Runs(pod *corev1.Pod) bool { return runs(pod, identityComponent, "identity") }

// Start serves certificates from the issuer, and checks and takes up each that
// follows it.
func (p identity) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	c, err := newClients(env, pod)
	if err != nil {
		return nil, err
	}
	return start(func(i *instance) error { return p.run(ctx, i, c, env.Log, pod) })
}

// run reads the trust anchors once, so that a new anchor takes a new pod.
func (p identity) run(ctx context.Context, i *instance, c *clients, log *slog.Logger, pod *corev1.Pod) error {
	roots, err := i.configMap(ctx, c, volumeSource(pod, "trust-roots"), p.lag)
	if err != nil {
		return err
	}
	anchors, err := decodeAnchors(roots.Files()["ca-bundle.crt"])
	if err != nil {
		return err
	}
	controller := podenv.Container(pod, "identity")
	crt, key, err := issuerFiles(argument(controller, "identity-scheme", linkerdScheme))
	if err != nil {
		return err
	}
	read := func(files map[string][]byte) (*issuer, error) { return readIssuer(files[crt], files[key], anchors) }

	deployment := p.deployment(ctx, c)
	recorder := i.events(c, p.Name())
	service := &certifyService{
		client:  c.pod,
		anchors: anchors,
		invalid: func(err error) {
			recorder.Eventf(deployment, corev1.EventTypeWarning, "IssuerValidationFailed", "a csr was received but the issuer is not valid: %v", err)
		},
	}
	if err := service.configure(controller, pod.Namespace); err != nil {
		return err
	}
	mounted, err := i.secret(ctx, c, volumeSource(pod, "identity-issuer"), p.lag, func(files map[string][]byte) {
		updated, err := read(files)
		if err != nil {
			recorder.Eventf(deployment, corev1.EventTypeWarning, "IssuerUpdateSkipped", "Skipping issuer update as certs could not be read from disk: %v", err)
			return
		}
		service.issuer.Store(updated)
		recorder.Event(deployment, corev1.EventTypeNormal, "IssuerUpdated", "Updated identity issuer")
	})
	if err != nil {
		return err
	}
	first, err := read(mounted.Files())
	if err != nil {
		return err
	}
	// Unless there is a newer one by now.
	service.issuer.CompareAndSwap(nil, first)
	return i.serve(ctx, log, certifyPort, service, nil)
}

// deployment is what events are about. Without its UID, should it be gone
// already, they are still found by name.
func (identity) deployment(ctx context.Context, c *clients) *corev1.ObjectReference {
	const name = "linkerd-identity"
	reference := &corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: c.namespace, Name: name}
	if deployment, err := c.node.AppsV1().Deployments(c.namespace).Get(ctx, name, metav1.GetOptions{}); err == nil {
		reference.UID = deployment.UID
	}
	return reference
}

// issuerFiles are the names of certificate and key in the issuer's Secret.
func issuerFiles(scheme string) (crt, key string, err error) {
	switch scheme {
	case linkerdScheme:
		return "crt.pem", "key.pem", nil
	case kubernetesScheme:
		return corev1.TLSCertKey, corev1.TLSPrivateKeyKey, nil
	default:
		return "", "", fmt.Errorf("unknown identity scheme %q", scheme)
	}
}
