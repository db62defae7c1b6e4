package release

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// dying returns a fault that lets n writes through and then nothing any more,
// as if the process had been killed before the next.
func dying(n int32) (testcluster.Match, *atomic.Int32) {
	var writes atomic.Int32
	return func(request *http.Request) bool {
		if request.Method != http.MethodGet {
			writes.Add(1)
		}
		return writes.Load() > n
	}, &writes
}

const crashing = `
{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {v: "VERSION"}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: "registry.invalid/x:VERSION"}]}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: service-VERSION
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: "registry.invalid/db:1"}]}
  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: only-VERSION}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: hook, annotations: {helm.sh/hook: "pre-install,post-upgrade,pre-delete"}}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: "registry.invalid/x:1"}]}}}}
`

// TestAccDeathAtAnyWrite kills an installation, an upgrade and an uninstall
// before each of their writes. The same operation with a new process must get to
// its end, and leave nothing that nobody wants.
func TestAccDeathAtAnyWrite(t *testing.T) {
	t.Parallel()
	version := func(v string) Desired {
		return Desired{Objects: parse(t, strings.ReplaceAll(crashing, "VERSION", v)), Wait: true, CreateNamespace: true}
	}
	uninstall := func(ctx context.Context, r *Release) error {
		_, err := r.Uninstall(ctx, UninstallOptions{})
		return err
	}
	for _, c := range []struct {
		name   string
		before []func(context.Context, *Release) error
		act    func(context.Context, *Release) error
		left   []string // ConfigMaps
		least  int32    // writes there must be
	}{
		{
			name:  "install",
			act:   func(ctx context.Context, r *Release) error { return r.Deploy(ctx, version("1")) },
			left:  []string{"a", "only-1"},
			least: 7,
		},
		{
			name:   "upgrade",
			before: []func(context.Context, *Release) error{func(ctx context.Context, r *Release) error { return r.Deploy(ctx, version("1")) }},
			act:    func(ctx context.Context, r *Release) error { return r.Deploy(ctx, version("2")) },
			left:   []string{"a", "only-2"},
			least:  9,
		},
		{
			name:   "uninstall",
			before: []func(context.Context, *Release) error{func(ctx context.Context, r *Release) error { return r.Deploy(ctx, version("1")) }},
			act:    uninstall,
			least:  7,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			releases := releasesBy(t, "")
			base := shared.Cluster(t).Namespace(t)
			for n := int32(0); ; n++ {
				namespace := fmt.Sprintf("%s-%d", base, n)
				for _, before := range c.before {
					if err := before(patient(t), open(t, releases, namespace, "app")); err != nil {
						t.Fatal(err)
					}
				}
				claim := claimUID(t, namespace)
				proxy := testcluster.NewFaultProxy(t, shared.Cluster(t).Kubeconfig())
				match, writes := dying(n)
				release := open(t, releasesBy(t, proxy.Kubeconfig()), namespace, "app")
				proxy.Set(testcluster.FaultReset, match)
				ctx, kill := context.WithCancel(patient(t))
				go func() {
					// What waits for the cluster to come back is killed, too.
					if proxy.WaitFaulted(ctx) == nil {
						kill()
					}
				}()
				err := c.act(ctx, release)
				kill()
				survived := writes.Load() <= n
				if survived != (err == nil) {
					t.Fatalf("death before write %d: %v after %d writes", n+1, err, writes.Load())
				}
				if survived && n < c.least {
					t.Errorf("only %d writes", n)
				}
				if !survived {
					again := open(t, releasesBy(t, ""), namespace, "app")
					if drift, err := again.Drift(t.Context()); err != nil || again.Record() != nil && n > 2 && len(drift) == 0 {
						t.Errorf("death before write %d: drift %q, %v", n+1, drift, err)
					}
					if err := c.act(patient(t), again); err != nil {
						t.Fatalf("after death before write %d: %v", n+1, err)
					}
				}
				if got := configMaps(t, namespace); !slices.Equal(got, c.left) {
					t.Fatalf("after death before write %d: ConfigMaps %q", n+1, got)
				}
				if c.left != nil {
					if now := claimUID(t, namespace); now == "" || claim != "" && now != claim {
						t.Fatalf("after death before write %d: the claim %s became %s", n+1, claim, now)
					}
					record := open(t, releases, namespace, "app").Record()
					if record == nil || record.Phase != PhaseDeployed || len(record.Objects) != 5 {
						t.Fatalf("after death before write %d: record %+v", n+1, record)
					}
					if drift, err := open(t, releasesBy(t, ""), namespace, "app").Drift(t.Context()); err != nil || len(drift) > 0 {
						t.Fatalf("after death before write %d: drift %q, %v", n+1, drift, err)
					}
				} else if open(t, releases, namespace, "app").Record() != nil || live(t, releases, kube.StatefulSet, namespace, "db") != nil {
					t.Fatalf("after death before write %d: something is left", n+1)
				}
				discardNamespace(t, releases, namespace)
				if survived {
					return
				}
			}
		})
	}
}

func configMaps(t *testing.T, namespace string) []string {
	t.Helper()
	found, err := releasesBy(t, "").Cluster.List(t.Context(), kube.ConfigMap, namespace)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, object := range found {
		if object.GetName() != "kube-root-ca.crt" {
			names = append(names, object.GetName())
		}
	}
	return names
}

// claimUID is the UID of the one claim of a namespace, "" if there is none.
func claimUID(t *testing.T, namespace string) types.UID {
	t.Helper()
	found, err := releasesBy(t, "").Cluster.List(t.Context(), persistentVolumeClaim, namespace)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		return ""
	}
	return found[0].GetUID()
}

func discardNamespace(t *testing.T, releases *Releases, namespace string) {
	t.Helper()
	if err := releases.Cluster.Delete(t.Context(), kube.Ref{Kind: kube.Namespace, Name: namespace}, kube.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// TestAccEndedInTheMiddle ends a deployment while it waits; the record says so
// and the next one goes on.
func TestAccEndedInTheMiddle(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	stuck := Desired{Objects: parse(t, deployment("web", "does-not-exist", "")), Wait: true}
	ctx, cancel := context.WithCancel(t.Context())
	releases.Log = func(message string, _ map[string]any) {
		if message == "waiting" {
			cancel()
		}
	}
	release := open(t, releases, namespace, "app")
	if err := release.Deploy(ctx, stuck); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	releases.Log = nil
	release = open(t, releases, namespace, "app")
	if record := release.Record(); record.Phase != PhaseFailed || len(record.Objects) != 1 {
		t.Errorf("record %+v", record)
	}
	late, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := release.Deploy(late, stuck); err == nil || !strings.Contains(err.Error(), "ImagePullBackOff") {
		t.Errorf("a rollout that fails: %v", err)
	}
	fixed := Desired{Objects: parse(t, deployment("web", "1", "")), Wait: true}
	deploy(t, releases, namespace, "app", fixed)
	if got := planned(t, releases, namespace, "app", fixed); len(got) > 0 {
		t.Errorf("plan %q", got)
	}
}
