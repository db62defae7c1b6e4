package aks_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

const toListUsers = "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action"

// await polls until the journal says something, for at most a minute.
func (p *person) await(t *testing.T, said string) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !strings.Contains(p.journal.all(), said) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Errorf("nobody said %q, but:\n%s", said, p.journal.all())
			return
		}
	}
}

// TestRolesAreWaitedFor has the roles of whoever logs in take effect only after
// they were missed, at ARM first and at the API server then.
func TestRolesAreWaitedFor(t *testing.T) {
	t.Parallel()
	cluster, p := newCluster(t, testazure.ClusterOptions{}), newPersonWaiting(t, 10*time.Second)
	cluster.Forbid(toListUsers)
	cluster.Forbid(testazure.ClusterData)
	c := p.connect(t, cluster, aks.AccessOptions{})
	answered := make(chan error, 1)
	go func() { answered <- version(t, c) }()
	p.await(t, "AuthorizationFailed")
	cluster.Permit(toListUsers)
	p.await(t, "does not have access to the resource in Azure")
	cluster.Permit(testazure.ClusterData)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestPatienceEnds has a role never come, and another wait given up.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	cluster, hasty := newCluster(t, testazure.ClusterOptions{}), newPersonWaiting(t, 200*time.Millisecond)
	cluster.Forbid(toListUsers)
	if _, err := hasty.access(t, idOf(t, cluster), aks.AccessOptions{}).Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "AuthorizationFailed") {
		t.Errorf("Connect: %v", err)
	}
	if got := asked(cluster, users); got < 2 {
		t.Errorf("asked %d times", got)
	}
	patient := newPersonWaiting(t, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		patient.await(t, "AuthorizationFailed")
		cancel()
	}()
	if _, err := patient.access(t, idOf(t, cluster), aks.AccessOptions{}).Connect(ctx); err == nil || !strings.Contains(err.Error(), "canceled") || !strings.Contains(err.Error(), "AuthorizationFailed") {
		t.Errorf("given up: %v", err)
	}
}
