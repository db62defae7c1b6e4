package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kwok/pkg/utils/informer"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// A runner runs one program for one pod.
type runner struct {
	kubelet *kubelet
	program program.Program
	pod     *corev1.Pod

	ctx    context.Context //nolint:containedctx // the life of the runner, not of a call
	cancel context.CancelFunc
	ended  chan struct{}

	mu          sync.Mutex
	instance    program.Instance
	connections map[*connection]struct{}
}

func newRunner(k *kubelet, wanted program.Program, pod *corev1.Pod) *runner {
	ctx, cancel := context.WithCancel(k.run)
	return &runner{
		kubelet:     k,
		program:     wanted,
		pod:         pod,
		ctx:         ctx,
		cancel:      cancel,
		ended:       make(chan struct{}),
		connections: map[*connection]struct{}{},
	}
}

// loop starts the program, again and again if it must, releases the pod to
// become ready, and ends the program when the runner is stopped.
func (r *runner) loop() {
	defer close(r.ended)
	log := r.kubelet.log.With("program", r.program.Name(), "pod", r.pod.Namespace+"/"+r.pod.Name)
	instance, err := r.start()
	backoff := retryPolicy()
	for failures := int32(1); err != nil; failures++ {
		if r.ctx.Err() != nil {
			return
		}
		log.Warn("program does not start", "error", err)
		r.kubelet.reportFailure(r.ctx, r.pod, failures, err)
		timer := time.NewTimer(backoff.Step())
		select {
		case <-timer.C:
		case <-r.ctx.Done():
			timer.Stop()
			return
		}
		instance, err = r.start()
	}

	r.mu.Lock()
	r.instance = instance
	r.mu.Unlock()
	log.Info("program serves")

	// Events seen meanwhile were held back; the newest state stands for all of them.
	if pod, err := r.kubelet.pods.Pods(r.pod.Namespace).Get(r.pod.Name); err == nil && pod.UID == r.pod.UID {
		r.kubelet.forward(informer.Event[*corev1.Pod]{Type: informer.Modified, Object: pod})
	}

	<-r.ctx.Done()
	r.mu.Lock()
	r.instance = nil
	open := r.connections
	r.connections = nil
	r.mu.Unlock()
	for conn := range open {
		_ = conn.Conn.Close()
	}
	instance.Stop()
	log.Info("program stopped")
}

// start starts the program once.
func (r *runner) start() (program.Instance, error) {
	env := r.kubelet.env
	env.Log = env.Log.With("program", r.program.Name())
	dir, err := r.kubelet.scratch(r.pod)
	if err != nil {
		return nil, err
	}
	env.Dir = dir
	return r.program.Start(r.ctx, env, r.pod)
}

// running reports whether the program serves.
func (r *runner) running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.instance != nil
}

// stop ends the program and returns when it is gone.
func (r *runner) stop() {
	r.cancel()
	<-r.ended
}

// dial connects to a container port of the program. The connection does not
// outlive the program.
func (r *runner) dial(ctx context.Context, port int) (net.Conn, error) {
	r.mu.Lock()
	instance := r.instance
	r.mu.Unlock()
	if instance == nil {
		return nil, fmt.Errorf("program %s does not serve yet", r.program.Name())
	}
	raw, err := instance.Dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("connect to program %s: %w", r.program.Name(), err)
	}
	conn := &connection{Conn: raw, runner: r}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connections == nil {
		return nil, errors.Join(fmt.Errorf("program %s has stopped", r.program.Name()), raw.Close())
	}
	r.connections[conn] = struct{}{}
	return conn, nil
}

// A connection is known to its runner until it is closed.
type connection struct {
	net.Conn
	runner *runner
}

// Close closes the connection.
func (c *connection) Close() error {
	c.runner.mu.Lock()
	delete(c.runner.connections, c)
	c.runner.mu.Unlock()
	return c.Conn.Close()
}
