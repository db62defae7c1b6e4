package linkerd

// This file stands in for the container runtime of Linkerd's control-plane pods.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// identityWait bounds how long a pod waits for a certificate before it is
// given up and started again.
const identityWait = 20 * time.Second

// An instance is what runs for one pod: webhooks, mounts and event recorders.
type instance struct {
	// addresses are the loopback addresses that stand for container ports.
	addresses map[int]string
	closers   []func()
}

// start runs begin for a new instance, and stops what has begun if it fails.
func start(begin func(i *instance) error) (program.Instance, error) {
	i := &instance{addresses: map[int]string{}}
	if err := begin(i); err != nil {
		i.Stop()
		return nil, err
	}
	return i, nil
}

// Dial connects to what listens on a container port.
func (i *instance) Dial(ctx context.Context, containerPort int) (net.Conn, error) {
	address, ok := i.addresses[containerPort]
	if !ok {
		return nil, fmt.Errorf("nothing listens on container port %d", containerPort)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// Stop ends all that runs, the youngest first.
func (i *instance) Stop() {
	for _, closer := range slices.Backward(i.closers) {
		closer()
	}
	i.closers = nil
}

func (i *instance) onStop(closer func()) { i.closers = append(i.closers, closer) }

// secret mounts a Secret of the pod's namespace until the instance stops.
func (i *instance) secret(ctx context.Context, c *clients, name string, lag time.Duration, changed func(map[string][]byte)) (*mount, error) {
	m, err := mountSecret(ctx, c.node, c.namespace, name, lag, changed)
	if err != nil {
		return nil, err
	}
	i.onStop(m.Close)
	return m, nil
}

// configMap mounts a ConfigMap of the pod's namespace until the instance stops.
func (i *instance) configMap(ctx context.Context, c *clients, name string, lag time.Duration) (*mount, error) {
	m, err := mountConfigMap(ctx, c.node, c.namespace, name, lag)
	if err != nil {
		return nil, err
	}
	i.onStop(m.Close)
	return m, nil
}

// events records events under the pod's account until the instance stops.
func (i *instance) events(c *clients, component string) record.EventRecorder {
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.pod.CoreV1().Events("")})
	i.onStop(broadcaster.Shutdown)
	return broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component})
}

// clients reach the API server for one pod.
type clients struct {
	namespace string
	// node has the rights of a kubelet and more.
	node kubernetes.Interface
	// pod has the rights of the pod's ServiceAccount, so that the roles of the
	// chart take effect.
	pod kubernetes.Interface
	// policies has the same rights for resources without a Go type.
	policies dynamic.Interface
}

func newClients(env program.Env, pod *corev1.Pod) (*clients, error) {
	node, err := kubernetes.NewForConfig(env.REST)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	config := env.As(pod)
	own, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	policies, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	return &clients{namespace: pod.Namespace, node: node, pod: own, policies: policies}, nil
}

// awaitIdentity stands in for the pod's own proxy, which is not ready before
// an identity controller has issued it a certificate.
func (c *clients) awaitIdentity(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, identityWait, true, func(ctx context.Context) (bool, error) {
		pods, err := c.node.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{
			LabelSelector: componentLabel + "=" + identityComponent,
		})
		if err != nil {
			return false, fmt.Errorf("list Pods of linkerd-identity: %w", err)
		}
		return slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool {
			return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
		}), nil
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("proxy has no certificate: no ready Pod of Deployment %s/linkerd-identity", c.namespace)
	}
	return err
}

// runs reports whether pod belongs to a component of the control plane and has
// the container that runs it.
func runs(pod *corev1.Pod, component, containerName string) bool {
	return pod.Labels[componentLabel] == component && podenv.Container(pod, containerName) != nil
}

// argument is the value of a command-line flag, given with one dash or two, or
// fallback.
func argument(c *corev1.Container, flag, fallback string) string {
	for _, arg := range c.Args {
		name, value, ok := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if ok && name == flag && strings.HasPrefix(arg, "-") {
			return value
		}
	}
	return fallback
}

// volumeSource is the name of the Secret or ConfigMap behind a volume.
func volumeSource(pod *corev1.Pod, volume string) string {
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.Name != volume:
		case v.Secret != nil:
			return v.Secret.SecretName
		case v.ConfigMap != nil:
			return v.ConfigMap.Name
		}
	}
	return ""
}
