package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/kwok/pkg/utils/informer"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// A runner runs the program and the proxy of one pod, which has one of them or
// both.
type runner struct {
	kubelet *kubelet
	program program.Program
	proxy   program.Proxy
	pod     *corev1.Pod
	log     *slog.Logger

	ctx    context.Context //nolint:containedctx // the life of the runner, not of a call
	cancel context.CancelFunc
	ended  chan struct{}

	mu          sync.Mutex
	instance    program.Instance
	connections map[*connection]struct{}
	// complete: all runs that the pod needs to become ready.
	complete bool
}

// newRunner returns a runner that runs nothing yet.
func newRunner(k *kubelet, pod *corev1.Pod) *runner {
	ctx, cancel := context.WithCancel(k.run)
	return &runner{
		kubelet:     k,
		pod:         pod,
		log:         k.log.With("pod", pod.Namespace+"/"+pod.Name),
		ctx:         ctx,
		cancel:      cancel,
		ended:       make(chan struct{}),
		connections: map[*connection]struct{}{},
	}
}

// loop runs what the pod needs, releases the pod to become ready, and ends all
// when the runner is stopped. The program comes first: it may be what its own
// proxy asks for an identity.
func (r *runner) loop() {
	defer close(r.ended)
	if r.program != nil {
		if !r.serve() {
			return
		}
		defer r.end()
	}
	if r.proxy != nil {
		r.identify()
		return
	}
	r.release()
	<-r.ctx.Done()
}

// insist tries again and again until it succeeds, and tells failed, with how
// often by now, when it does not. It returns false if the runner is stopped.
func (r *runner) insist(pace wait.Backoff, try func() error, failed func(failures int32, err error)) bool {
	for failures := int32(1); ; failures++ {
		err := try()
		if err == nil {
			return true
		}
		if r.ctx.Err() != nil {
			return false
		}
		failed(failures, err)
		if !r.pause(pace.Step()) {
			return false
		}
	}
}

// pause returns after d, or false once the runner is stopped.
func (r *runner) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// serve starts the program, again and again if it must. It returns false if the
// runner is stopped before it serves.
func (r *runner) serve() bool {
	log := r.log.With("program", r.program.Name())
	var instance program.Instance
	started := r.insist(
		wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 6, Cap: 10 * time.Second},
		func() error {
			env, err := r.env(r.program.Name())
			if err == nil {
				instance, err = r.program.Start(r.ctx, env, r.pod)
			}
			return err
		},
		func(failures int32, err error) {
			log.Warn("program does not start", "error", err)
			r.kubelet.reportFailure(r.ctx, r.pod, failures, err)
		})
	if !started {
		return false
	}
	r.mu.Lock()
	r.instance = instance
	r.mu.Unlock()
	log.Info("program serves")
	return true
}

// end ends the program: when no Service sends anybody to it any more, and
// before the connections that it has left open.
func (r *runner) end() {
	r.kubelet.drained(r.pod)
	r.mu.Lock()
	instance := r.instance
	r.instance = nil
	r.mu.Unlock()
	instance.Stop()
	r.mu.Lock()
	open := r.connections
	r.connections = nil
	r.mu.Unlock()
	for conn := range open {
		_ = conn.Conn.Close()
	}
	r.log.Info("program stopped", "program", r.program.Name())
}

// env is what the program or proxy of this name may use.
func (r *runner) env(name string) (program.Env, error) {
	env := r.kubelet.env
	env.Log = r.log.With("program", name)
	dir, err := r.kubelet.scratch(r.pod)
	if err != nil {
		return program.Env{}, err
	}
	env.Dir = dir
	env.Dial = r.reach
	return env, nil
}

// release lets the pod become ready, if it was not released before.
func (r *runner) release() {
	r.mu.Lock()
	before := r.complete
	r.complete = true
	r.mu.Unlock()
	if before {
		return
	}
	// Events seen meanwhile were held back; the newest state stands for all of them.
	if pod, err := r.kubelet.pods.Pods(r.pod.Namespace).Get(r.pod.Name); err == nil && pod.UID == r.pod.UID {
		r.kubelet.forward(informer.Event[*corev1.Pod]{Type: informer.Modified, Object: pod})
	}
}

// released reports whether the pod may become ready.
func (r *runner) released() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.complete
}

// stop ends the program and returns when it is gone.
func (r *runner) stop() {
	r.cancel()
	<-r.ended
}

// dial connects to a container port of the program. The connection does not
// outlive the program.
func (r *runner) dial(ctx context.Context, port int) (net.Conn, error) {
	if r.program == nil {
		return nil, errors.New("no program runs for the pod")
	}
	r.mu.Lock()
	instance := r.instance
	r.mu.Unlock()
	if instance == nil {
		return nil, fmt.Errorf("program %s does not serve", r.program.Name())
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
