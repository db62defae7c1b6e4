package node

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/config/resources"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
	"sigs.k8s.io/kwok/pkg/utils/informer"
	"sigs.k8s.io/kwok/pkg/utils/lifecycle"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

//go:embed stages/*.yaml
var stages embed.FS

const (
	// drainTimeout bounds how long a program outlives the deletion of its pod
	// because of Services, and drainInterval is how often those are looked at.
	drainTimeout  = 5 * time.Second
	drainInterval = 5 * time.Millisecond
)

// A kubelet serves the pods of all nodes. Every pod event goes through it to
// KWOK, which moves the pod from stage to stage; the events of a pod that has a
// runner are held back until that releases them.
type kubelet struct {
	client   kubernetes.Interface
	pods     corev1listers.PodLister
	slices   discoverylisters.EndpointSliceLister
	programs []program.Program
	proxies  []program.Proxy
	env      program.Env
	log      *slog.Logger

	run    context.Context //nolint:containedctx // the life of the kubelet, not of a call
	events chan informer.Event[*corev1.Pod]
	tasks  sync.WaitGroup

	mu      sync.Mutex
	runners map[types.UID]*runner

	// seen are the versions that pods had, which have to change, when the informer
	// last told all of them again. Only the goroutine of the events uses it.
	seen map[types.UID]string
}

// startKubelet starts to serve pods on nodes until ctx ends.
func startKubelet(ctx context.Context, options Options, nodes map[string]*controllers.NodeInfo) (*kubelet, error) {
	podStages, err := loadStages()
	if err != nil {
		return nil, err
	}
	// KWOK prepares a stage when it first meets a pod, and workers that do so at
	// the same time crash: let it meet one before they start.
	if _, err := podStages.ListAllPossible(ctx, &lifecycle.Event{Data: &corev1.Pod{}}); err != nil {
		return nil, fmt.Errorf("prepare pod stages: %w", err)
	}
	cached, err := informer.NewInformer[*corev1.Node, *corev1.NodeList](options.Client.CoreV1().Nodes()).
		WatchWithCache(ctx, informer.Option{}, nil)
	if err != nil {
		return nil, fmt.Errorf("watch Nodes: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: options.Client.CoreV1().Events(corev1.NamespaceAll)})
	controller, err := controllers.NewPodController(controllers.PodControllerConfig{
		TypedClient:     options.Client,
		NodeCacheGetter: cached,
		NodeGetFunc: func(name string) (*controllers.NodeInfo, bool) {
			node, ok := nodes[name]
			return node, ok
		},
		Lifecycle:            resources.NewStaticGetter(podStages),
		PlayStageParallelism: parallelism,
		Recorder:             broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet"}),
	})
	if err != nil {
		return nil, fmt.Errorf("prepare pod simulation: %w", err)
	}

	pods := options.Informers.Core().V1().Pods()
	k := &kubelet{
		client:   options.Client,
		pods:     pods.Lister(),
		slices:   options.Informers.Discovery().V1().EndpointSlices().Lister(),
		programs: options.Programs,
		proxies:  options.Proxies,
		env:      options.Env,
		log:      options.Log,
		run:      ctx,
		events:   make(chan informer.Event[*corev1.Pod]),
		runners:  map[types.UID]*runner{},
		seen:     map[types.UID]string{},
	}
	if err := controller.Start(ctx, k.events); err != nil {
		return nil, fmt.Errorf("start pod simulation: %w", err)
	}
	_, err = pods.Informer().AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, _ bool) { k.observe(informer.Added, object) },
		UpdateFunc: func(before, object any) {
			old, was := before.(*corev1.Pod)
			pod, is := object.(*corev1.Pod)
			if resync := was && is && old.ResourceVersion == pod.ResourceVersion; resync && !k.stalled(pod) {
				return
			}
			k.observe(informer.Modified, object)
		},
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if pod, ok := object.(*corev1.Pod); ok {
				delete(k.seen, pod.UID)
			}
			k.observe(informer.Deleted, object)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watch Pods: %w", err)
	}
	return k, nil
}

// loadStages returns the life of a pod: ours, and KWOK's own for its end.
func loadStages() (lifecycle.Lifecycle, error) {
	sources := []string{fast.DefaultPodDelete}
	files, err := stages.ReadDir("stages")
	if err != nil {
		return nil, fmt.Errorf("list pod stages: %w", err)
	}
	for _, file := range files {
		data, err := stages.ReadFile("stages/" + file.Name())
		if err != nil {
			return nil, fmt.Errorf("read pod stage: %w", err)
		}
		sources = append(sources, string(data))
	}
	parsed := make([]*internalversion.Stage, len(sources))
	for i, source := range sources {
		if parsed[i], err = config.UnmarshalWithType[*internalversion.Stage](source); err != nil {
			return nil, fmt.Errorf("parse pod stage: %w", err)
		}
	}
	return lifecycle.NewLifecycle(parsed)
}

// observe handles one event of the pod informer.
func (k *kubelet) observe(kind informer.EventType, object any) {
	pod, ok := object.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return
	}
	event := informer.Event[*corev1.Pod]{Type: kind, Object: pod}
	run := k.runner(pod, kind == informer.Deleted || leaving(pod))
	switch {
	case run == nil:
		k.forward(event)
	case kind == informer.Deleted || leaving(pod):
		// A pod goes only after its program is gone, but others need not wait for it.
		k.tasks.Go(func() {
			run.stop()
			k.forget(pod.UID)
			k.forward(event)
		})
	case run.released():
		k.forward(event)
	}
}

// leaving reports whether the containers of pod have ended or must end.
func leaving(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// stalled reports whether a pod that has to change has not done so since the last
// resync. KWOK gives up a change when the API server, or the way to it, fails for a
// moment; a real kubelet tries again. A change that has only just begun is left alone.
func (k *kubelet) stalled(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	completes := owner != nil && owner.Kind == "Job" && pod.Status.Phase == corev1.PodRunning
	if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodPending && !completes {
		delete(k.seen, pod.UID)
		return false
	}
	before := k.seen[pod.UID]
	k.seen[pod.UID] = pod.ResourceVersion
	return before == pod.ResourceVersion
}

// forward lets KWOK see event.
func (k *kubelet) forward(event informer.Event[*corev1.Pod]) {
	select {
	case k.events <- event:
	case <-k.run.Done():
	}
}

// runner returns the runner of pod. When there is none yet, a program or a proxy
// wants the pod, its images are there and the pod is not leaving, it starts one.
func (k *kubelet) runner(pod *corev1.Pod, leaving bool) *runner {
	k.mu.Lock()
	defer k.mu.Unlock()
	if run := k.runners[pod.UID]; run != nil || leaving || !pulled(pod) {
		return run
	}
	run := newRunner(k, pod)
	if i := slices.IndexFunc(k.programs, func(p program.Program) bool { return p.Runs(pod) }); i >= 0 {
		run.program = k.programs[i]
	}
	if i := slices.IndexFunc(k.proxies, func(p program.Proxy) bool { return p.Runs(pod) }); i >= 0 {
		run.proxy = k.proxies[i]
	}
	if run.program == nil && run.proxy == nil {
		return nil
	}
	k.runners[pod.UID] = run
	k.tasks.Go(run.loop)
	return run
}

// pulled reports whether there are images for all containers of pod, without
// which it never gets as far as to run anything.
func pulled(pod *corev1.Pod) bool {
	return !slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return strings.HasSuffix(c.Image, ":does-not-exist")
	})
}

func (k *kubelet) forget(pod types.UID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.runners, pod)
}

// dial connects to a port of the program that runs for the pod.
func (k *kubelet) dial(ctx context.Context, pod types.UID, port int) (net.Conn, error) {
	k.mu.Lock()
	run := k.runners[pod]
	k.mu.Unlock()
	if run == nil {
		return nil, fmt.Errorf("no program runs for pod %s", pod)
	}
	return run.dial(ctx, port)
}

// drained waits until no Service sends anybody to pod, for which a real pod has
// the time between its deletion and its end. It gives up after drainTimeout.
func (k *kubelet) drained(pod *corev1.Pod) {
	ctx, cancel := context.WithTimeout(k.run, drainTimeout)
	defer cancel()
	err := wait.PollUntilContextCancel(ctx, drainInterval, true, func(context.Context) (bool, error) {
		all, err := k.slices.EndpointSlices(pod.Namespace).List(labels.Everything())
		return err == nil && !slices.ContainsFunc(all, func(slice *discoveryv1.EndpointSlice) bool {
			return slices.ContainsFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool {
				return e.TargetRef != nil && e.TargetRef.UID == pod.UID && (e.Conditions.Ready == nil || *e.Conditions.Ready)
			})
		}), err
	})
	if err != nil && k.run.Err() == nil {
		k.log.Warn("a pod ends that Services still send to", "pod", pod.Namespace+"/"+pod.Name)
	}
}

// wait returns when everything started by the kubelet has ended.
func (k *kubelet) wait() { k.tasks.Wait() }

// reportFailure shows in the status of pod why its program does not run.
func (k *kubelet) reportFailure(ctx context.Context, pod *corev1.Pod, failures int32, cause error) {
	status := corev1.PodStatus{Conditions: notReady(cause)}
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name:         container.Name,
			Image:        container.Image,
			RestartCount: failures,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
				Reason: "CrashLoopBackOff", Message: cause.Error(),
			}},
		})
	}
	k.report(ctx, pod, status)
}

// notReady are the conditions of a pod that runs but, because of cause, is not
// ready.
func notReady(cause error) []corev1.PodCondition {
	var conditions []corev1.PodCondition
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		conditions = append(conditions, corev1.PodCondition{
			Type: kind, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: cause.Error(),
		})
	}
	return conditions
}

// report changes what status has of the status of pod.
func (k *kubelet) report(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) {
	patch, err := json.Marshal(map[string]any{"status": status})
	if err == nil {
		_, err = k.client.CoreV1().Pods(pod.Namespace).
			Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if err != nil && ctx.Err() == nil {
		k.log.Warn("cannot report the state of a pod", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

// scratch creates the directory of an instance.
func (k *kubelet) scratch(pod *corev1.Pod) (string, error) {
	dir := filepath.Join(k.env.Dir, string(pod.UID))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create directory of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return dir, nil
}
