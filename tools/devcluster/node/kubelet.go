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
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
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

// A kubelet serves the pods of all nodes. Every pod event goes through it to
// KWOK, which moves the pod from stage to stage; the events of a pod that a
// program runs for are held back until the program serves.
type kubelet struct {
	client   kubernetes.Interface
	pods     corev1listers.PodLister
	programs []program.Program
	env      program.Env
	log      *slog.Logger

	run    context.Context //nolint:containedctx // the life of the kubelet, not of a call
	events chan informer.Event[*corev1.Pod]
	tasks  sync.WaitGroup

	mu      sync.Mutex
	runners map[types.UID]*runner
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
		programs: options.Programs,
		env:      options.Env,
		log:      options.Log,
		run:      ctx,
		events:   make(chan informer.Event[*corev1.Pod]),
		runners:  map[types.UID]*runner{},
	}
	if err := controller.Start(ctx, k.events); err != nil {
		return nil, fmt.Errorf("start pod simulation: %w", err)
	}
	_, err = pods.Informer().AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, _ bool) { k.observe(informer.Added, object) },
		UpdateFunc: func(_, object any) {
			k.observe(informer.Modified, object)
		},
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
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
	case run.running():
		k.forward(event)
	}
}

// leaving reports whether the containers of pod have ended or must end.
func leaving(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// forward lets KWOK see event.
func (k *kubelet) forward(event informer.Event[*corev1.Pod]) {
	select {
	case k.events <- event:
	case <-k.run.Done():
	}
}

// runner returns the runner of pod. When there is none yet, a program wants the
// pod and the pod is not leaving, it starts one.
func (k *kubelet) runner(pod *corev1.Pod, leaving bool) *runner {
	k.mu.Lock()
	defer k.mu.Unlock()
	if run := k.runners[pod.UID]; run != nil || leaving {
		return run
	}
	for _, candidate := range k.programs {
		if candidate.Runs(pod) {
			run := newRunner(k, candidate, pod)
			k.runners[pod.UID] = run
			k.tasks.Go(run.loop)
			return run
		}
	}
	return nil
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

// wait returns when everything started by the kubelet has ended.
func (k *kubelet) wait() { k.tasks.Wait() }

// reportFailure shows in the status of pod why its program does not run.
func (k *kubelet) reportFailure(ctx context.Context, pod *corev1.Pod, failures int32, cause error) {
	status := corev1.PodStatus{
		Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: cause.Error()},
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: cause.Error()},
		},
	}
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

// retryPolicy is the pace at which a failing program is started again.
func retryPolicy() wait.Backoff {
	return wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Steps: 6, Cap: 10 * time.Second}
}
