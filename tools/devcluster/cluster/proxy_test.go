package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// proxyContainer is the container of the proxies of these tests.
const proxyContainer = "test-proxy"

// An authority numbers the certificates of proxies, each due at once.
type authority struct {
	// away makes it give none.
	away   atomic.Bool
	serial atomic.Int64
}

func (*authority) Name() string { return proxyContainer }

func (*authority) Runs(pod *corev1.Pod) bool {
	for _, container := range pod.Spec.Containers {
		if container.Name == proxyContainer {
			return true
		}
	}
	return false
}

func (a *authority) Start(_ context.Context, _ program.Env, pod *corev1.Pod) (program.Certifier, error) {
	return client{authority: a, pod: pod.Name}, nil
}

type client struct {
	*authority
	pod string
}

func (c client) Certify(context.Context) (program.Identity, error) {
	if c.away.Load() {
		return program.Identity{}, errors.New("the authority is away")
	}
	return program.Identity{Chain: strconv.FormatInt(c.serial.Add(1), 10), Roots: c.pod, RenewAt: time.Now()}, nil
}

// certificate is the number of that of pod's proxy, or 0.
func certificate(pod *corev1.Pod) (int64, error) {
	value, ok := pod.Annotations[program.IdentityAnnotation]
	if !ok {
		return 0, nil
	}
	var identity program.Identity
	if err := json.Unmarshal([]byte(value), &identity); err != nil {
		return 0, err
	}
	if identity.Roots != pod.Name {
		return 0, fmt.Errorf("the identity of Pod %s is that of %s", pod.Name, identity.Roots)
	}
	return strconv.ParseInt(identity.Chain, 10, 64)
}

// TestProxyGetsAnIdentity follows a pod from a proxy without certificate to
// one with its second.
func TestProxyGetsAnIdentity(t *testing.T) {
	t.Parallel()
	shared.authority.away.Store(true)
	name := namespace(t, nil)
	pods := template("app", "example.com/app:1")
	pods.Spec.Containers = append(pods.Spec.Containers, corev1.Container{Name: proxyContainer, Image: "example.com/proxy:1"})
	deploy(t, name, 1, pods)
	onlyPod(t, name, "app", func(pod *corev1.Pod) error {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionFalse &&
				condition.Message == "container test-proxy has no certificate: the authority is away" {
				return nil
			}
		}
		return fmt.Errorf("the reason is not in the status: %+v", pod.Status)
	})

	shared.authority.away.Store(false)
	var first int64
	onlyPod(t, name, "app", func(pod *corev1.Pod) (err error) {
		if first, err = certificate(pod); err != nil {
			return err
		}
		if ready(pod) != corev1.ConditionTrue {
			return errors.New("the pod is not ready")
		}
		if first == 0 {
			t.Error("the pod is ready before its proxy has a certificate")
		}
		return nil
	})
	pod := onlyPod(t, name, "app", func(pod *corev1.Pod) error {
		next, err := certificate(pod)
		if err == nil && next <= first {
			err = fmt.Errorf("certificate %d is not renewed", first)
		}
		return err
	})
	if ready(pod) != corev1.ConditionTrue {
		t.Errorf("the pod is not ready after a renewal: %+v", pod.Status)
	}
}

// TestProxyWithoutImages checks that a proxy which cannot start does not hide
// why.
func TestProxyWithoutImages(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	pods := template("app", "example.com/app:1")
	pods.Spec.Containers = append(pods.Spec.Containers, corev1.Container{Name: proxyContainer, Image: "example.com/proxy:does-not-exist"})
	deploy(t, name, 1, pods)
	pod := onlyPod(t, name, "app", func(pod *corev1.Pod) error {
		if !strings.Contains(fmt.Sprint(pod.Status.ContainerStatuses), "ImagePullBackOff") {
			return fmt.Errorf("no container waits for its image: %+v", pod.Status)
		}
		return nil
	})
	if number, err := certificate(pod); number != 0 || err != nil {
		t.Errorf("the proxy has certificate %d, %v", number, err)
	}
}
