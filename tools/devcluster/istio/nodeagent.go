package istio

// This file stands in for the node agent of istio-cni (istio cni/pkg/nodeagent).

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	// redirectionAnnotation says how far a pod is in the ambient mode. It is
	// all that the API shows of it.
	redirectionAnnotation = "ambient.istio.io/redirection"
	// enrolled: the traffic of the pod goes through ztunnel.
	enrolled = "enabled"
	// pending: it is redirected, but no ztunnel of the node has taken it over.
	pending = "pending"

	// sidecarAnnotation is on pods with a proxy of their own.
	sidecarAnnotation = "sidecar.istio.io/status"
)

// retryCap bounds how long the agent waits for a ztunnel between two tries.
const retryCap = time.Second

// errNoZtunnel is why a pod stays pending.
var errNoZtunnel = errors.New("no ready ztunnel on the node")

// nodeAgent enrols the pods of a node in the ambient mode, and ends that when
// they no longer want it. It knows pods that exist only by their status: the
// CNI plugin, which the real agent hears of new pods from, does not run here.
// Neither does the repair of sidecars that came up before the plugin.
type nodeAgent struct{}

func (nodeAgent) Name() string { return "istio-cni-node" }

func (nodeAgent) Runs(pod *corev1.Pod) bool {
	return pod.Labels["k8s-app"] == "istio-cni-node" && podenv.Container(pod, "install-cni") != nil
}

// Start runs the agent for the node of pod with the settings and the rights
// that the chart gives it. What it has enrolled stays so when it stops.
func (p nodeAgent) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	node, err := kubernetes.NewForConfig(env.REST)
	if err != nil {
		return nil, fmt.Errorf("create client for %s: %w", p.Name(), err)
	}
	own, err := kubernetes.NewForConfig(env.As(pod))
	if err != nil {
		return nil, fmt.Errorf("create client for %s: %w", p.Name(), err)
	}
	settings, err := podenv.Variables(ctx, node, pod, podenv.Container(pod, "install-cni"))
	if err != nil {
		return nil, err
	}
	if settings["AMBIENT_ENABLED"] != "true" {
		return &agent{}, nil
	}
	enablement, err := parseEnablement(settings["AMBIENT_ENABLEMENT_SELECTOR"], settings["EXCLUDE_NAMESPACES"])
	if err != nil {
		return nil, err
	}
	return startAgent(ctx, own, pod.Spec.NodeName, enablement, env.Log)
}

// An enablement says which pods are to be enrolled.
type enablement struct {
	// any of these must match a pod together with its namespace.
	any []struct{ pods, namespaces labels.Selector }
	// excluded are names of namespaces.
	excluded []string
}

// parseEnablement reads the selectors of the chart, a list in YAML, and a comma
// separated list of excluded namespaces.
func parseEnablement(selectors, excluded string) (enablement, error) {
	var given []struct {
		PodSelector       metav1.LabelSelector `json:"podSelector"`
		NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
	}
	if err := yaml.Unmarshal([]byte(selectors), &given); err != nil {
		return enablement{}, fmt.Errorf("read AMBIENT_ENABLEMENT_SELECTOR: %w", err)
	}
	e := enablement{excluded: strings.Split(excluded, ",")}
	for _, selector := range given {
		pods, err := metav1.LabelSelectorAsSelector(&selector.PodSelector)
		if err != nil {
			return enablement{}, fmt.Errorf("read AMBIENT_ENABLEMENT_SELECTOR: %w", err)
		}
		namespaces, err := metav1.LabelSelectorAsSelector(&selector.NamespaceSelector)
		if err != nil {
			return enablement{}, fmt.Errorf("read AMBIENT_ENABLEMENT_SELECTOR: %w", err)
		}
		e.any = append(e.any, struct{ pods, namespaces labels.Selector }{pods, namespaces})
	}
	return e, nil
}

// wants reports whether pod is to be enrolled. Pods in the network of their
// node cannot be, those with a sidecar need not, and those that have ended are
// released.
func (e enablement) wants(pod *corev1.Pod, namespace *corev1.Namespace) bool {
	_, sidecar := pod.Annotations[sidecarAnnotation]
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if pod.Spec.HostNetwork || sidecar || ended || slices.Contains(e.excluded, namespace.Name) {
		return false
	}
	for _, s := range e.any {
		if s.pods.Matches(labels.Set(pod.Labels)) && s.namespaces.Matches(labels.Set(namespace.Labels)) {
			return true
		}
	}
	return false
}

// An agent enrols the pods of one node; the zero value does nothing.
type agent struct {
	client     kubernetes.Interface
	enablement enablement
	log        *slog.Logger
	pods       corev1listers.PodLister
	namespaces corev1listers.NamespaceLister
	queue      workqueue.TypedRateLimitingInterface[cache.ObjectName]

	cancel  context.CancelFunc
	watches []informers.SharedInformerFactory
	work    sync.WaitGroup
}

// startAgent returns when the agent knows all pods of the node.
func startAgent(
	ctx context.Context, client kubernetes.Interface, node string, enablement enablement, log *slog.Logger,
) (*agent, error) {
	ofNode := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		}))
	ofCluster := informers.NewSharedInformerFactory(client, 0)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a := &agent{
		client:     client,
		enablement: enablement,
		log:        log,
		pods:       ofNode.Core().V1().Pods().Lister(),
		namespaces: ofCluster.Core().V1().Namespaces().Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](5*time.Millisecond, retryCap)),
		cancel:  cancel,
		watches: []informers.SharedInformerFactory{ofNode, ofCluster},
	}
	for _, watch := range []struct {
		informer cache.SharedIndexInformer
		changed  func(old, object any)
	}{
		{ofNode.Core().V1().Pods().Informer(), a.podChanged},
		{ofCluster.Core().V1().Namespaces().Informer(), a.namespaceChanged},
	} {
		if _, err := watch.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { watch.changed(nil, object) },
			UpdateFunc: watch.changed,
		}); err != nil {
			a.Stop()
			return nil, fmt.Errorf("watch for %s: %w", nodeAgent{}.Name(), err)
		}
	}
	for _, w := range a.watches {
		w.StartWithContext(run)
	}
	for _, w := range a.watches {
		for kind, synced := range w.WaitForCacheSync(ctx.Done()) {
			if !synced {
				a.Stop()
				return nil, fmt.Errorf("list %s for %s: %w", kind, nodeAgent{}.Name(), context.Cause(ctx))
			}
		}
	}
	a.work.Go(func() {
		for a.next(run) {
		}
	})
	return a, nil
}

// Dial fails: nothing of the agent is reached through a Service.
func (a *agent) Dial(_ context.Context, containerPort int) (net.Conn, error) {
	return nil, fmt.Errorf("%s does not listen on port %d", nodeAgent{}.Name(), containerPort)
}

// Stop ends the agent and returns when it writes nothing any more.
func (a *agent) Stop() {
	if a.cancel == nil {
		return
	}
	a.cancel()
	a.queue.ShutDown()
	for _, w := range a.watches {
		w.Shutdown()
	}
	a.work.Wait()
}

func (a *agent) podChanged(_, object any) {
	if pod, ok := object.(*corev1.Pod); ok {
		a.queue.Add(cache.MetaObjectToName(pod))
	}
}

// namespaceChanged has all pods of a namespace looked at, whose labels are for
// all of them.
func (a *agent) namespaceChanged(old, object any) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return
	}
	if before, ok := old.(*corev1.Namespace); ok && maps.Equal(before.Labels, namespace.Labels) {
		return
	}
	pods, err := a.pods.Pods(namespace.Name).List(labels.Everything())
	if err != nil {
		a.log.Error("cannot list pods", "namespace", namespace.Name, "error", err)
		return
	}
	for _, pod := range pods {
		a.queue.Add(cache.MetaObjectToName(pod))
	}
}

// next handles one pod, which it tries again after a failure, and reports
// whether there may be more.
func (a *agent) next(ctx context.Context) bool {
	name, shutdown := a.queue.Get()
	if shutdown {
		return false
	}
	defer a.queue.Done(name)
	if err := a.reconcile(ctx, name); err != nil {
		a.log.Warn("pod is tried again", "pod", name.String(), "error", err)
		a.queue.AddRateLimited(name)
		return true
	}
	a.queue.Forget(name)
	return true
}

// reconcile makes the annotation of a pod say what is true of it now.
func (a *agent) reconcile(ctx context.Context, name cache.ObjectName) error {
	pod, err := a.pods.Pods(name.Namespace).Get(name.Name)
	if err != nil {
		return notFoundIsFine(err)
	}
	namespace, err := a.namespaces.Get(name.Namespace)
	if err != nil {
		return notFoundIsFine(err)
	}
	state := pod.Annotations[redirectionAnnotation]
	captured := state == enrolled || state == pending
	switch wanted := a.enablement.wants(pod, namespace); {
	case !wanted && captured:
		return a.annotate(ctx, pod, nil)
	case !wanted || state == enrolled || pod.Status.PodIP == "":
		return nil
	}
	ready, err := a.ztunnelReady()
	if err != nil {
		return err
	}
	if ready {
		return a.annotate(ctx, pod, new(enrolled))
	}
	if state != pending {
		if err := a.annotate(ctx, pod, new(pending)); err != nil {
			return err
		}
	}
	return errNoZtunnel
}

// ztunnelReady reports whether a ztunnel of the node can take over pods.
func (a *agent) ztunnelReady() (bool, error) {
	pods, err := a.pods.List(labels.SelectorFromSet(labels.Set{"app": "ztunnel"}))
	if err != nil {
		return false, fmt.Errorf("list ztunnels: %w", err)
	}
	return slices.ContainsFunc(pods, func(pod *corev1.Pod) bool {
		return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
	}), nil
}

// annotate sets the state of pod, or removes it if it is nil. It needs, as the
// chart grants, only the right to change the pod's status.
func (a *agent) annotate(ctx context.Context, pod *corev1.Pod, state *string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]any{redirectionAnnotation: state},
	}})
	if err != nil {
		return err
	}
	_, err = a.client.CoreV1().Pods(pod.Namespace).
		Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err := notFoundIsFine(err); err != nil {
		return fmt.Errorf("annotate Pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// notFoundIsFine is err unless it tells of an object that is gone.
func notFoundIsFine(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
