// Package program is the seam between the simulated nodes and what must really
// run in the embedded cluster: admission webhooks, mesh control planes and, if
// asked for, what gives the proxies of meshed pods their identities. No container ever starts here; where the cluster
// needs the behaviour of one, a Program runs it as a host process or goroutine
// on loopback and the cluster routes Service traffic to it.
package program

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// A Program stands in for what the containers of some pods would run.
type Program interface {
	// Name identifies the program in logs, such as "linkerd-proxy-injector".
	Name() string

	// Runs reports whether pod would run this program. The simulated kubelet
	// leaves such a pod unready until Start has returned.
	Runs(pod *corev1.Pod) bool

	// Start runs the program for pod and returns once it serves, which is the
	// moment the pod becomes Ready. An error leaves the pod unready with the
	// error as its waiting reason, and Start is tried again with back-off.
	// The program lives until the Instance is stopped.
	Start(ctx context.Context, env Env, pod *corev1.Pod) (Instance, error)
}

// An Instance is a Program running for one pod.
type Instance interface {
	// Dial opens a connection to the container port of the pod.
	Dial(ctx context.Context, containerPort int) (net.Conn, error)

	// Stop ends the program and returns when its listeners are closed.
	Stop()
}

// Env is what a Program may use of the cluster it runs in.
type Env struct {
	// REST is a cluster-admin configuration with client-side throttling off.
	REST *rest.Config
	// Kubeconfig is the path of the same access as a file.
	Kubeconfig string
	// Dir is a scratch directory of the instance, removed with the cluster.
	Dir string
	Log *slog.Logger
	// Dial connects to address as a container of the pod would: host and port
	// of a Service, by its name or address, of a pod, by its address, or of the
	// pod itself as localhost. It takes any ready pod of a Service that accept,
	// unless nil, has no error for.
	Dial func(ctx context.Context, address string, accept func(pod *corev1.Pod) error) (net.Conn, error)
}

// As returns the access of the ServiceAccount of pod, so that the roles a chart
// binds to it take effect.
func (e Env) As(pod *corev1.Pod) *rest.Config {
	config := rest.CopyConfig(e.REST)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: fmt.Sprintf("system:serviceaccount:%s:%s", pod.Namespace, pod.Spec.ServiceAccountName),
		Groups: []string{
			"system:serviceaccounts", "system:serviceaccounts:" + pod.Namespace, "system:authenticated",
		},
	}
	return config
}
