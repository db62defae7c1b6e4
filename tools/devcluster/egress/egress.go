// Package egress lets the API server, and what stands in for the containers of
// other pods, reach what runs in place of simulated pods. The API server sends its connections into the cluster, such as those
// to admission webhooks, through an HTTP CONNECT proxy on a Unix socket, as it
// does with Konnectivity; the proxy takes the part of Services and the pod
// network. An address behind which nothing ready runs is refused.
package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// Names of the informer indexes.
const (
	byClusterIP = "clusterIP"
	byPodIP     = "podIP"
)

// dialTimeout bounds one attempt to reach a pod.
const dialTimeout = 5 * time.Second

// A Dialer connects to a container port of the pod with this UID.
type Dialer interface {
	Dial(ctx context.Context, pod types.UID, containerPort int) (net.Conn, error)
}

// A Proxy serves CONNECT requests for addresses of Services and pods.
type Proxy struct {
	dialer   Dialer
	services cache.Indexer
	pods     cache.Indexer
	slices   discoverylisters.EndpointSliceLister
	log      *slog.Logger

	server  *http.Server
	cancel  context.CancelFunc
	tunnels sync.WaitGroup
}

// An endpoint is a container port of a pod.
type endpoint struct {
	// key is the pod's <namespace>/<name>.
	key  string
	pod  types.UID
	port int
}

// Start serves on the Unix socket until Stop. It uses informers that the
// caller starts afterwards.
func Start(ctx context.Context, socket string, shared informers.SharedInformerFactory, dialer Dialer, log *slog.Logger) (*Proxy, error) {
	services := shared.Core().V1().Services().Informer()
	if err := services.AddIndexers(cache.Indexers{byClusterIP: indexServices}); err != nil {
		return nil, fmt.Errorf("index Services: %w", err)
	}
	pods := shared.Core().V1().Pods().Informer()
	if err := pods.AddIndexers(cache.Indexers{byPodIP: indexPods}); err != nil {
		return nil, fmt.Errorf("index Pods: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &Proxy{
		dialer:   dialer,
		services: services.GetIndexer(),
		pods:     pods.GetIndexer(),
		slices:   shared.Discovery().V1().EndpointSlices().Lister(),
		log:      log,
		cancel:   cancel,
	}
	p.server = &http.Server{
		Handler:           p,
		ReadHeaderTimeout: dialTimeout,
		BaseContext:       func(net.Listener) context.Context { return run },
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("listen for the API server: %w", err)
	}
	go func() {
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the API server cannot reach webhooks any more", "error", err)
		}
	}()
	return p, nil
}

// Stop closes the socket and all connections made through it.
func (p *Proxy) Stop() {
	p.cancel()
	_ = p.server.Close()
	p.tunnels.Wait()
}

// ServeHTTP answers one CONNECT request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "this is a CONNECT proxy", http.StatusMethodNotAllowed)
		return
	}
	p.tunnels.Add(1)
	defer p.tunnels.Done()
	remote, err := p.Dial(r.Context(), r.Host, nil)
	if err != nil {
		p.log.Debug("refused a connection of the API server", "address", r.Host, "error", err)
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	controller := http.NewResponseController(w)
	local, buffered, err := controller.Hijack()
	if err != nil {
		_ = remote.Close()
		p.log.Error("cannot take over a connection of the API server", "error", err)
		return
	}
	// The client speaks only after this answer, so nothing can be buffered.
	_, err = io.WriteString(buffered, "HTTP/1.1 200 Connection Established\r\n\r\n")
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		_, _ = local.Close(), remote.Close()
		return
	}
	tunnel(r.Context(), local, remote)
}

// tunnel copies both ways until either side or ctx ends.
func tunnel(ctx context.Context, local, remote net.Conn) {
	closeBoth := func() {
		_ = local.Close()
		_ = remote.Close()
	}
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	var copies sync.WaitGroup
	for _, pair := range [][2]net.Conn{{local, remote}, {remote, local}} {
		copies.Go(func() {
			// How a connection ends is between its two ends.
			_, _ = io.Copy(pair[0], pair[1])
			closeBoth()
		})
	}
	copies.Wait()
}

// Dial connects to address, host and port of a Service or a pod. host is the IP
// of either or the name of a Service, such as "name.namespace.svc" with or
// without the domain of the cluster. Pods that accept, unless nil, has an error
// for are passed over.
func (p *Proxy) Dial(ctx context.Context, address string, accept func(pod *corev1.Pod) error) (net.Conn, error) {
	endpoints, err := p.resolve(address)
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(endpoints), func(i, j int) { //nolint:gosec // spreading load is no secret
		endpoints[i], endpoints[j] = endpoints[j], endpoints[i]
	})
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var failures []error
	for _, candidate := range endpoints {
		if accept != nil {
			if err := p.check(candidate, accept); err != nil {
				failures = append(failures, err)
				continue
			}
		}
		conn, err := p.dialer.Dial(ctx, candidate.pod, candidate.port)
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, fmt.Errorf("connect to %s: %w", address, errors.Join(failures...))
}

// check asks accept about the pod of an endpoint.
func (p *Proxy) check(candidate endpoint, accept func(pod *corev1.Pod) error) error {
	object, exists, err := p.pods.GetByKey(candidate.key)
	if err != nil {
		return fmt.Errorf("read Pod %s: %w", candidate.key, err)
	}
	pod, ok := object.(*corev1.Pod)
	if !exists || !ok || pod.UID != candidate.pod {
		return fmt.Errorf("the Pod %s is gone", candidate.key)
	}
	return accept(pod)
}

// resolve returns the ready endpoints of address, at least one.
func (p *Proxy) resolve(address string) ([]endpoint, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", address, err)
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", address, err)
	}
	if name := strings.Split(host, "."); len(name) > 2 && name[2] == "svc" {
		object, _, err := p.services.GetByKey(name[1] + "/" + name[0])
		if err != nil {
			return nil, fmt.Errorf("resolve %s: %w", address, err)
		}
		if service, ok := object.(*corev1.Service); ok {
			return p.resolveService(service, port)
		}
		return nil, fmt.Errorf("no Service has the name %s", host)
	}
	services, err := p.services.ByIndex(byClusterIP, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", address, err)
	}
	for _, object := range services {
		if service, ok := object.(*corev1.Service); ok {
			return p.resolveService(service, port)
		}
	}
	pods, err := p.pods.ByIndex(byPodIP, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", address, err)
	}
	for _, object := range pods {
		if pod, ok := object.(*corev1.Pod); ok {
			return []endpoint{{key: pod.Namespace + "/" + pod.Name, pod: pod.UID, port: port}}, nil
		}
	}
	return nil, fmt.Errorf("no Service or Pod has the address %s", host)
}

// resolveService returns the ready endpoints behind a port of service.
func (p *Proxy) resolveService(service *corev1.Service, port int) ([]endpoint, error) {
	name := service.Namespace + "/" + service.Name
	for _, candidate := range service.Spec.Ports {
		if int(candidate.Port) != port {
			continue
		}
		slices, err := p.slices.EndpointSlices(service.Namespace).
			List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service.Name}))
		if err != nil {
			return nil, fmt.Errorf("list EndpointSlices of Service %s: %w", name, err)
		}
		var ready []endpoint
		for _, slice := range slices {
			ready = append(ready, readyEndpoints(slice, candidate.Name)...)
		}
		if len(ready) == 0 {
			return nil, fmt.Errorf("no endpoints available for Service %s port %d", name, port)
		}
		return ready, nil
	}
	return nil, fmt.Errorf("the Service %s has no port %d", name, port)
}

// readyEndpoints returns the ready pods of slice with their port of this name.
func readyEndpoints(slice *discoveryv1.EndpointSlice, portName string) []endpoint {
	var ready []endpoint
	for _, port := range slice.Ports {
		if port.Port == nil || (port.Name != nil && *port.Name != portName) {
			continue
		}
		for _, target := range slice.Endpoints {
			// An unknown state counts as ready by the rules of the API.
			if target.Conditions.Ready != nil && !*target.Conditions.Ready {
				continue
			}
			if target.TargetRef != nil && target.TargetRef.Kind == "Pod" {
				ready = append(ready, endpoint{
					key:  target.TargetRef.Namespace + "/" + target.TargetRef.Name,
					pod:  target.TargetRef.UID,
					port: int(*port.Port),
				})
			}
		}
	}
	return ready
}

// indexServices indexes Services by their cluster IPs.
func indexServices(object any) ([]string, error) {
	service, ok := object.(*corev1.Service)
	if !ok {
		return nil, fmt.Errorf("unexpected object %T", object)
	}
	return service.Spec.ClusterIPs, nil
}

// indexPods indexes pods by their own IPs.
func indexPods(object any) ([]string, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("unexpected object %T", object)
	}
	if pod.Spec.HostNetwork {
		return nil, nil
	}
	ips := make([]string, len(pod.Status.PodIPs))
	for i, ip := range pod.Status.PodIPs {
		ips[i] = ip.IP
	}
	return ips, nil
}
