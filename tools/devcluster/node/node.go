// Package node simulates the nodes of a cluster: it registers machines that
// look like those of an AKS node pool, keeps their leases fresh and plays the
// kubelet for the pods scheduled to them. KWOK reports what containers would
// do; where a pod needs the behaviour of a container, a program runs in its
// place and the pod becomes ready with it. If asked for, the proxies of meshed
// pods have identities, and their pods become ready with them.
//
// The tag of an image says what comes of it. With "does-not-exist" it is never
// pulled: the pod stays pending with ImagePullBackOff, and no program runs for
// it. That is how an upgrade of a control plane fails: for instance with the value
// controllerImageVersion of Linkerd's charts, or global.tag of Istio's. With "fails" an ordinary
// container exits with code 1: a pod that restarts nothing has failed, as Jobs
// need it to fail themselves, and any other stays in CrashLoopBackOff. With any
// other tag the containers of Jobs end with code 0, but a proxy of a mesh that
// is an ordinary container runs on and keeps its Job from completing.
package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/informer"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

const (
	// leaseSeconds is the kubelet's default.
	leaseSeconds = 40
	// parallelism is how many pods change state at a time.
	parallelism = 16
	// syncInterval is how often a real kubelet looks at its pods without a change,
	// or nearly: it takes a minute.
	syncInterval = 10 * time.Second

	scaleSet      = "aks-nodepool1-29314862-vmss"
	resourceGroup = "MC_devcluster_devcluster_"
	instanceType  = "Standard_D32s_v5"

	// networkPolicyLabel stands in for an engine that enforces NetworkPolicies,
	// which nothing does here: it is what AKS puts on the nodes of a cluster that
	// was made with one. Without the label, the cluster looks like one that has none.
	networkPolicyLabel = "kubernetes.azure.com/network-policy"
)

// Options configure a Pool.
type Options struct {
	// Client may do everything in the cluster.
	Client kubernetes.Interface
	// Informers are shared with others, started by the caller and made with Resync,
	// without which a pod whose change fails once stays as it is.
	Informers informers.SharedInformerFactory
	// Count is the number of nodes.
	Count int
	// Region is an Azure region such as "westeurope"; nodes are spread over its three zones.
	Region string
	// KubeletVersion is reported by the nodes, such as "v1.36.3".
	KubeletVersion string
	// Programs run in place of the containers of some pods.
	Programs []program.Program
	// Proxies get the proxies of some pods their identities.
	Proxies []program.Proxy
	// Env is what programs get; each instance has its own directory below Env.Dir.
	Env program.Env
	Log *slog.Logger
	// SimulationLog receives the warnings of KWOK as text.
	SimulationLog io.Writer
}

// Resync has informers tell of all pods now and again.
func Resync() informers.SharedInformerOption {
	return informers.WithCustomResyncConfig(map[metav1.Object]time.Duration{&corev1.Pod{}: syncInterval})
}

// A Pool is a set of simulated nodes.
type Pool struct {
	kubelet *kubelet
	cancel  context.CancelFunc
}

// Start registers the nodes and serves them until Stop. It returns once they
// accept pods.
func Start(ctx context.Context, options Options) (*Pool, error) {
	// KWOK logs each change of each pod at the level of information.
	run, cancel := context.WithCancel(kwoklog.NewContext(context.WithoutCancel(ctx), kwoklog.NewLogger(options.SimulationLog, kwoklog.LevelWarn)))
	nodes := make(map[string]*controllers.NodeInfo, options.Count)
	register := func(index int) error {
		node := describe(index, options)
		nodes[node.Name] = &controllers.NodeInfo{}
		if _, err := options.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("register Node %s: %w", node.Name, err)
		}
		return admit(ctx, options.Client, node.Name)
	}
	for index := range options.Count {
		if err := register(index); err != nil {
			cancel()
			return nil, err
		}
	}
	if err := holdLeases(run, options.Client, nodes); err != nil {
		cancel()
		return nil, err
	}
	kubelet, err := startKubelet(run, options, nodes)
	if err != nil {
		cancel()
		return nil, err
	}
	return &Pool{kubelet: kubelet, cancel: cancel}, nil
}

// Dial connects to a container port of the pod with this UID. It fails unless
// a program runs for the pod.
func (p *Pool) Dial(ctx context.Context, pod types.UID, containerPort int) (net.Conn, error) {
	return p.kubelet.dial(ctx, pod, containerPort)
}

// Stop ends all programs and returns when they are gone. The objects in the
// cluster stay as they are.
func (p *Pool) Stop() {
	p.cancel()
	p.kubelet.wait()
}

// admit removes the taint that every new Node gets until the node lifecycle
// controller has seen it, which is not worth waiting for.
func admit(ctx context.Context, client kubernetes.Interface, name string) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		node.Spec.Taints = nil
		_, err = client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("admit Node %s: %w", name, err)
	}
	return nil
}

// holdLeases renews the lease of every node until ctx ends.
func holdLeases(ctx context.Context, client kubernetes.Interface, nodes map[string]*controllers.NodeInfo) error {
	leases, err := informer.NewInformer[*coordinationv1.Lease, *coordinationv1.LeaseList](
		client.CoordinationV1().Leases(corev1.NamespaceNodeLease)).WatchWithCache(ctx, informer.Option{}, nil)
	if err != nil {
		return fmt.Errorf("watch node leases: %w", err)
	}
	controller, err := controllers.NewNodeLeaseController(controllers.NodeLeaseControllerConfig{
		HolderIdentity:       "devcluster",
		TypedClient:          client,
		LeaseDurationSeconds: leaseSeconds,
		LeaseParallelism:     1,
		GetLease: func(name string) (*coordinationv1.Lease, bool) {
			return leases.GetWithNamespace(name, corev1.NamespaceNodeLease)
		},
		RenewInterval: leaseSeconds / 4 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("prepare node leases: %w", err)
	}
	if err := controller.Start(ctx); err != nil {
		return fmt.Errorf("hold node leases: %w", err)
	}
	for name := range nodes {
		controller.TryHold(name)
	}
	return nil
}

// describe returns the Node that the AKS virtual machine of this index registers.
func describe(index int, options Options) *corev1.Node {
	var (
		name  = fmt.Sprintf("%s%06d", scaleSet, index)
		zone  = fmt.Sprintf("%s-%d", options.Region, index%3+1)
		group = resourceGroup + options.Region
	)
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("32"),
		corev1.ResourceMemory:           resource.MustParse("128Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("128Gi"),
		corev1.ResourcePods:             resource.MustParse("250"),
	}
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: reason, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				"agentpool":                                       "nodepool1",
				"kubernetes.azure.com/agentpool":                  "nodepool1",
				"kubernetes.azure.com/cluster":                    group,
				"kubernetes.azure.com/mode":                       "system",
				"kubernetes.azure.com/os-sku":                     "Ubuntu",
				"kubernetes.azure.com/role":                       "agent",
				"kubernetes.azure.com/storageprofile":             "managed",
				"storageprofile":                                  "managed",
				"topology.disk.csi.azure.com/zone":                zone,
				corev1.LabelArchStable:                            "amd64",
				corev1.LabelFailureDomainBetaRegion:               options.Region,
				corev1.LabelFailureDomainBetaZone:                 zone,
				corev1.LabelHostname:                              name,
				corev1.LabelInstanceType:                          instanceType,
				corev1.LabelInstanceTypeStable:                    instanceType,
				corev1.LabelOSStable:                              "linux",
				corev1.LabelTopologyRegion:                        options.Region,
				corev1.LabelTopologyZone:                          zone,
				"beta.kubernetes.io/arch":                         "amd64",
				"beta.kubernetes.io/os":                           "linux",
				"kubernetes.azure.com/network-dataplane":          "azure",
				networkPolicyLabel:                                "calico",
				"kubernetes.azure.com/podnetwork-type":            "overlay",
				"kubernetes.azure.com/kubelet-identity-client-id": "00000000-0000-0000-0000-000000000000",
			},
		},
		Spec: corev1.NodeSpec{
			PodCIDR:  fmt.Sprintf("10.244.%d.0/24", index),
			PodCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", index)},
			ProviderID: fmt.Sprintf("azure:///subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/%s/"+
				"providers/Microsoft.Compute/virtualMachineScaleSets/%s/virtualMachines/%d", group, scaleSet, index),
		},
		Status: corev1.NodeStatus{
			Phase:       corev1.NodeRunning,
			Capacity:    capacity,
			Allocatable: capacity,
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.224.%d.%d", index/250, index%250+4)},
				{Type: corev1.NodeHostName, Address: name},
			},
			Conditions: []corev1.NodeCondition{
				condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory"),
				condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure"),
				condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID"),
				condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady"),
			},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
			NodeInfo: corev1.NodeSystemInfo{
				Architecture:            "amd64",
				OperatingSystem:         "linux",
				OSImage:                 "Ubuntu 22.04.5 LTS",
				KernelVersion:           "5.15.0-1102-azure",
				ContainerRuntimeVersion: "containerd://1.7.28-2",
				KubeletVersion:          options.KubeletVersion,
			},
		},
	}
}
