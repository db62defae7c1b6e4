package aks_test

import (
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// Work that takes longer than a token lives goes on, and so does a watch that
// began with a token that has expired since. It is not parallel: nobody else
// wants tokens that live so shortly.
func TestAccWorkOutlivesItsTokens(t *testing.T) {
	embedded := shared.Cluster(t)
	config, err := clientcmd.BuildConfigFromFlags("", embedded.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	api, err := testazure.Forward(config)
	if err != nil {
		t.Fatal(err)
	}
	double.TokenLifetime(2 * time.Second)
	t.Cleanup(func() { double.TokenLifetime(time.Hour) })
	cluster, p := newCluster(t, testazure.ClusterOptions{API: api}), newPerson(t)
	c := p.connect(t, cluster, aks.AccessOptions{})
	other, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}

	ref := kube.Ref{Kind: kube.ConfigMap, Namespace: embedded.Namespace(t), Name: "c"}
	watch, err := other.CoreV1().ConfigMaps(ref.Namespace).Watch(t.Context(), metav1.SingleObject(metav1.ObjectMeta{Name: ref.Name}))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	seen := make(chan int)
	go func() {
		defer close(seen)
		for event := range watch.ResultChan() {
			written, ok := event.Object.(*corev1.ConfigMap)
			if !ok {
				return
			}
			turn, err := strconv.Atoi(written.Data["turn"])
			if err != nil {
				return
			}
			select {
			case seen <- turn:
			case <-t.Context().Done():
				return
			}
		}
	}()

	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for turn := 1; p.tokens() < 5; turn++ {
		written := ref.Object()
		written.Object["data"] = map[string]any{"turn": strconv.Itoa(turn)}
		if _, err := c.Apply(t.Context(), written, kube.ApplyOptions{Manager: "m"}); err != nil {
			t.Fatalf("turn %d, with token %d: %v", turn, p.tokens(), err)
		}
		if got, ok := <-seen; !ok || got != turn {
			t.Fatalf("turn %d, with token %d: the watch saw %d", turn, p.tokens(), got)
		}
		if _, err := c.List(t.Context(), kube.ConfigMap, ref.Namespace); err != nil {
			t.Fatalf("turn %d, with token %d: %v", turn, p.tokens(), err)
		}
		if _, err := other.CoreV1().ConfigMaps(ref.Namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Fatalf("turn %d, with token %d: %v", turn, p.tokens(), err)
		}
		<-pace.C
	}
	if got := asked(cluster, users); got != 1 {
		t.Errorf("asked ARM %d times", got)
	}
}
