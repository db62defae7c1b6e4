package node

// This file stands in for the proxies of meshed pods, as far as they hold identities.

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	// certifyTimeout bounds one attempt to get a certificate.
	certifyTimeout = 10 * time.Second
	// renewalInterval is the least time between two certificates, as an issuer
	// at its end gives some that are due at once.
	renewalInterval = time.Second
)

// identify gets the proxy one certificate after the other until the runner is
// stopped. With the first the pod becomes ready.
func (r *runner) identify() {
	log := r.log.With("proxy", r.proxy.Name())
	var certifier program.Certifier
	for {
		var identity program.Identity
		held := r.insist(
			wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Steps: 5, Cap: time.Second},
			func() (err error) {
				if certifier == nil {
					if certifier, err = r.startProxy(); err != nil {
						return err
					}
				}
				if identity, err = r.certify(certifier); err != nil {
					return err
				}
				return r.show(identity)
			},
			func(_ int32, err error) {
				log.Warn("proxy gets no certificate", "error", err)
				if !r.released() {
					cause := fmt.Errorf("container %s has no certificate: %w", r.proxy.Name(), err)
					r.kubelet.report(r.ctx, r.pod, corev1.PodStatus{Conditions: notReady(cause)})
				}
			})
		if !held {
			return
		}
		r.release()
		if !r.pause(max(time.Until(identity.RenewAt), renewalInterval)) {
			return
		}
	}
}

func (r *runner) startProxy() (program.Certifier, error) {
	env, err := r.env(r.proxy.Name())
	if err != nil {
		return nil, err
	}
	return r.proxy.Start(r.ctx, env, r.pod)
}

func (r *runner) certify(certifier program.Certifier) (program.Identity, error) {
	ctx, cancel := context.WithTimeout(r.ctx, certifyTimeout)
	defer cancel()
	return certifier.Certify(ctx)
}

// show writes identity on the pod, unless another has taken its name by now.
func (r *runner) show(identity program.Identity) error {
	value, err := json.Marshal(identity)
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": r.pod.UID, "annotations": map[string]string{program.IdentityAnnotation: string(value)},
	}})
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	_, err = r.kubelet.client.CoreV1().Pods(r.pod.Namespace).
		Patch(r.ctx, r.pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("show identity on Pod %s/%s: %w", r.pod.Namespace, r.pod.Name, err)
	}
	return nil
}

// reach connects to address as a container of the pod would.
func (r *runner) reach(ctx context.Context, address string, accept func(*corev1.Pod) error) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	if strings.TrimSuffix(host, ".") != "localhost" {
		return r.kubelet.env.Dial(ctx, address, accept)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return r.dial(ctx, number)
}
