package aks_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// TestRolesAreWaitedFor has the roles of whoever logs in take effect only after
// they were missed, at ARM first and at the API server then.
func TestRolesAreWaitedFor(t *testing.T) {
	t.Parallel()
	const action = "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action"
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	cluster.Forbid(action)
	cluster.Forbid(testazure.ClusterData)
	var refusals []string
	var mu sync.Mutex
	c := p.connect(t, cluster, aks.AccessOptions{Patience: time.Minute / 2, Log: func(_ context.Context, _ string, fields map[string]any) {
		mu.Lock()
		defer mu.Unlock()
		refusal, _ := fields["refusal"].(string)
		refusals = append(refusals, refusal)
		if strings.Contains(refusal, "AuthorizationFailed") {
			cluster.Permit(action)
		} else {
			cluster.Permit(testazure.ClusterData)
		}
	}})
	err := version(t, c)
	mu.Lock()
	defer mu.Unlock()
	if err != nil || len(refusals) != 2 || !strings.Contains(refusals[0], "AuthorizationFailed") || !strings.Contains(refusals[1], "in Azure") {
		t.Errorf("%v; waited for %q", err, refusals)
	}
}

// TestPatienceEnds has a role never come, and another wait given up.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPerson(t)
	cluster.Forbid("Microsoft.ContainerService/managedClusters/listClusterUserCredential/action")
	access := p.access(t, idOf(t, cluster), aks.AccessOptions{Patience: 200 * time.Millisecond})
	if _, err := access.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "AuthorizationFailed") {
		t.Errorf("Connect: %v", err)
	}
	if got := asked(cluster, users); got < 2 {
		t.Errorf("asked %d times", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	given := p.access(t, idOf(t, cluster), aks.AccessOptions{Patience: time.Hour, Log: func(context.Context, string, map[string]any) { cancel() }})
	if _, err := given.Connect(ctx); err == nil || !strings.Contains(err.Error(), "canceled") || !strings.Contains(err.Error(), "AuthorizationFailed") {
		t.Errorf("given up: %v", err)
	}
}
