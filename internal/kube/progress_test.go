package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// state is a pod status with one container in some state.
func state(t *testing.T, waiting string) map[string]any {
	t.Helper()
	return fromYAML(t, fmt.Sprintf(`{status: {containerStatuses: [{name: main, state: {waiting: {reason: %s, message: m}}}]}}`, waiting)).Object
}

func labelled(fields map[string]any, key, value string) map[string]any {
	meta, ok := fields["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		fields["metadata"] = meta
	}
	meta["labels"] = map[string]any{"app": "alpha", key: value}
	return fields
}

func TestSigns(t *testing.T) {
	t.Parallel()
	deployment := `{metadata: {annotations: {deployment.kubernetes.io/revision: "2"}}, spec: {replicas: 1}, status: {replicas: 2, updatedReplicas: 1}}`
	stateful := `{spec: {replicas: 2}, status: {replicas: %d, updateRevision: new}}`
	set := func(name, revision string) map[string]any {
		owned := controlledBy(Deployment, "alpha")
		owned["metadata"].(map[string]any)["annotations"] = map[string]any{"deployment.kubernetes.io/revision": revision} //nolint:forcetypeassert // Made above.
		return manifest(ReplicaSet, "dgraph", name, owned)
	}
	db := Ref{StatefulSet, "dgraph", "alpha"}
	created := func(name, at string) map[string]any {
		e := event(name, db, "SuccessfulCreate", "create Pod")
		e["type"], e["lastTimestamp"] = "Normal", at
		return e
	}
	of := func(kind Kind, name, label, value string) map[string]any {
		return labelled(controlledBy(kind, name), label, value)
	}
	for name, test := range map[string]struct {
		kind    Kind
		fields  string
		objects []map[string]any
		want    []string
	}{
		"nothing": {Deployment, deployment, nil, nil},
		"pods of the newest template": {Deployment, deployment, []map[string]any{
			set("new", "2"), set("old", "1"),
			pod("dgraph", "a", of(ReplicaSet, "new", "x", "y"), state(t, "CreateContainerConfigError")),
			pod("dgraph", "b", of(ReplicaSet, "old", "x", "y"), state(t, "ImagePullBackOff")),
			pod("dgraph", "c", of(ReplicaSet, "unknown", "x", "y"), state(t, "ImagePullBackOff")),
			pod("dgraph", "d", of(ReplicaSet, "new", "x", "y"), state(t, "ContainerCreating")),
			pod("dgraph", "e", of(ReplicaSet, "new", "x", "y"), state(t, "InvalidImageName")),
			pod("dgraph", "f", labelled(map[string]any{}, "x", "y"), state(t, "InvalidImageName")),
		}, []string{"Pod dgraph/a: container main: CreateContainerConfigError: m", "Pod dgraph/e: container main: InvalidImageName: m"}},
		"a condition":              {Deployment, `{status: {conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded, message: m}]}}`, nil, []string{"ProgressDeadlineExceeded: m"}},
		"a condition from before":  {Deployment, `{metadata: {generation: 2}, status: {observedGeneration: 1, conditions: [{type: ReplicaFailure, status: "True", reason: FailedCreate, message: m}]}}`, nil, nil},
		"stateful set":             {StatefulSet, fmt.Sprintf(stateful, 2), []map[string]any{pod("dgraph", "a", of(StatefulSet, "alpha", "controller-revision-hash", "new"), state(t, "CrashLoopBackOff")), pod("dgraph", "b", of(StatefulSet, "alpha", "controller-revision-hash", "old"), state(t, "CrashLoopBackOff"))}, []string{"Pod dgraph/a: container main: CrashLoopBackOff: m"}},
		"daemon set":               {DaemonSet, `{metadata: {annotations: {deprecated.daemonset.template.generation: "2"}}}`, []map[string]any{pod("dgraph", "a", of(DaemonSet, "alpha", "pod-template-generation", "2"), state(t, "ErrImagePull")), pod("dgraph", "b", of(DaemonSet, "alpha", "pod-template-generation", "1"), state(t, "ErrImagePull"))}, []string{"Pod dgraph/a: container main: ErrImagePull: m"}},
		"a refusal":                {StatefulSet, fmt.Sprintf(stateful, 1), []map[string]any{created("e0", "2026-09-01T12:00:00Z"), event("e1", db, "FailedCreate", "quota")}, []string{"FailedCreate: quota"}},
		"a refusal that is over":   {StatefulSet, fmt.Sprintf(stateful, 1), []map[string]any{event("e1", db, "FailedCreate", "quota"), created("e2", "2026-09-01T12:00:01Z")}, nil},
		"a refusal of no account":  {StatefulSet, fmt.Sprintf(stateful, 2), []map[string]any{event("e1", db, "FailedCreate", "quota")}, nil},
		"a refusal of another one": {StatefulSet, fmt.Sprintf(stateful, 1), []map[string]any{event("e1", Ref{StatefulSet, "dgraph", "other"}, "FailedCreate", "quota")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.set(workload(t, test.kind, test.fields))
			a.set(test.objects...)
			c := a.connect(t)
			w, err := c.Workload(t.Context(), Ref{test.kind, "dgraph", "alpha"})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.signs(t.Context(), w); err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v", got, err)
			}
			if n := a.count("GET " + refPath(Ref{ReplicaSet, "dgraph", "unknown"})); n > 0 {
				t.Error("asked for a ReplicaSet")
			}
		})
	}
}

// Only a sign that lasts, while nothing else moves, counts.
func TestASignCountsWhenItLasts(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	stuck := func(updated int) map[string]any {
		return workload(t, StatefulSet, fmt.Sprintf(`{spec: {replicas: 9}, status: {replicas: 9, updatedReplicas: %d, updateRevision: new}}`, updated))
	}
	a.set(stuck(1), pod("dgraph", "a", labelled(controlledBy(StatefulSet, "alpha"), "controller-revision-hash", "new"), state(t, "CrashLoopBackOff")))
	c := a.connect(t)
	ref := Ref{StatefulSet, "dgraph", "alpha"}
	w, err := c.Workload(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	const patience = 40 * time.Second
	p := newProgress(w)
	check := func(after time.Duration) error {
		p.looked = p.looked.Add(-after)
		if !p.since.IsZero() {
			p.since = p.since.Add(-after)
		}
		return p.check(t.Context(), c, w, patience)
	}
	for i, after := range []time.Duration{time.Second, patience, patience / 2} {
		if err := check(after); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	// Progress begins anew.
	w.Updated = 2
	for i, after := range []time.Duration{patience, patience, patience / 2} {
		if err := check(after); err != nil {
			t.Errorf("after progress, %d: %v", i, err)
		}
	}
	var failure *RolloutError
	if err := check(patience); !errors.As(err, &failure) || failure.Workload != ref || !strings.Contains(err.Error(), "CrashLoopBackOff") || !strings.Contains(Advice(err), "logs --previous") {
		t.Errorf("error: %v, advice %q", err, Advice(err))
	}
}

func TestADeadlineOfTheDeploymentIsExplained(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	unhealthy := event("e1", Ref{Pod, "dgraph", "a"}, "Unhealthy", "Readiness probe failed: 503")
	a.set(
		workload(t, Deployment, `{metadata: {annotations: {deployment.kubernetes.io/revision: "2"}}, status: {conditions: [{type: Progressing, status: "False", reason: ProgressDeadlineExceeded, message: "ReplicaSet has timed out progressing."}]}}`),
		manifest(ReplicaSet, "dgraph", "rs", controlledBy(Deployment, "alpha")),
		pod("dgraph", "a", labelled(controlledBy(ReplicaSet, "rs"), "x", "y")), unhealthy,
	)
	err := a.connect(t).AwaitRollouts(t.Context(), 50*time.Millisecond, alpha)
	want := "Deployment dgraph/alpha does not roll out: ProgressDeadlineExceeded: ReplicaSet has timed out progressing.\nPod dgraph/a: Unhealthy: Readiness probe failed: 503"
	if err == nil || err.Error() != want {
		t.Errorf("error: %v", err)
	}
	if err := a.connect(t).AwaitRollouts(t.Context(), 0, Ref{Deployment, "dgraph", "none"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestDisruption(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]struct {
		kind  Kind
		takes int32
	}{
		`{spec: {replicas: 3}}`: {Deployment, 0},
		`{spec: {replicas: 4}}`: {Deployment, 1},
		`{spec: {}}`:            {Deployment, 0},
		`{spec: {replicas: 3, strategy: {type: Recreate}}}`:                                      {Deployment, 3},
		`{spec: {replicas: 3, strategy: {rollingUpdate: {maxUnavailable: 5}}}}`:                  {Deployment, 3},
		`{spec: {replicas: 3, strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: "10%"}}}}`: {Deployment, 0},
		`{spec: {replicas: 3, strategy: {rollingUpdate: {maxUnavailable: "10%", maxSurge: 0}}}}`: {Deployment, 1},
		`{spec: {replicas: 0, strategy: {rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}}}`:     {Deployment, 0},
		`{spec: {replicas: 3 }}`: {StatefulSet, 1},
		`{spec: {replicas: 0 }}`: {StatefulSet, 0},
		`{spec: {replicas: 10, updateStrategy: {rollingUpdate: {maxUnavailable: "25%"}}}}`:                                 {StatefulSet, 2},
		`{spec: {replicas: 3, updateStrategy: {rollingUpdate: {maxUnavailable: "25%"}}}}`:                                  {StatefulSet, 1},
		`{status: {desiredNumberScheduled: 3}}`:                                                                            {DaemonSet, 1},
		`{spec: {updateStrategy: {rollingUpdate: {maxUnavailable: "40%"}}}, status: {desiredNumberScheduled: 3}}`:          {DaemonSet, 2},
		`{spec: {updateStrategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}}, status: {desiredNumberScheduled: 3}}`: {DaemonSet, 0},
		`{status: {desiredNumberScheduled: 0}}`:                                                                            {DaemonSet, 0},
	} {
		a := newAPI(t)
		a.set(workload(t, want.kind, fields))
		w, err := a.connect(t).Workload(t.Context(), Ref{want.kind, "dgraph", "alpha"})
		if err != nil || w.disruption != want.takes {
			t.Errorf("%s %s takes %d down, want %d (%v)", want.kind, fields, w.disruption, want.takes, err)
		}
	}
}

func TestABudgetIsJudgedByWhatItsControllerHasSeen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		budget string
		delay  string
		never  bool
	}{
		"allowed":           {`{metadata: {generation: 1}, spec: {selector: {matchLabels: {app: alpha}}}, status: {observedGeneration: 1, disruptionsAllowed: 1, currentHealthy: 2, desiredHealthy: 1, expectedPods: 2}}`, "", false},
		"not seen":          {`{metadata: {generation: 2}, spec: {selector: {matchLabels: {app: alpha}}}, status: {observedGeneration: 1, disruptionsAllowed: 1, currentHealthy: 2, desiredHealthy: 2, expectedPods: 2}}`, "is not evaluated yet", false},
		"unhealthy":         {`{metadata: {generation: 1}, spec: {selector: {matchLabels: {app: alpha}}}, status: {observedGeneration: 1, currentHealthy: 1, desiredHealthy: 1, expectedPods: 2}}`, "it allows 0 now: 1 of 2 pods are healthy, 1 have to be", false},
		"never":             {`{metadata: {generation: 1}, spec: {selector: {matchLabels: {app: alpha}}}, status: {observedGeneration: 1, currentHealthy: 2, desiredHealthy: 2, expectedPods: 2}}`, "", true},
		"pods not made yet": {`{metadata: {generation: 1}, spec: {selector: {matchLabels: {app: alpha}}}, status: {observedGeneration: 1, currentHealthy: 1, desiredHealthy: 1, expectedPods: 1}}`, "1 of 1 pods are healthy", false},
		"of others":         {`{metadata: {generation: 1}, spec: {selector: {matchLabels: {app: beta}}}, status: {observedGeneration: 1, desiredHealthy: 2, expectedPods: 2}}`, "", false},
		"of all":            {`{metadata: {generation: 1}, spec: {selector: {}}, status: {observedGeneration: 1, desiredHealthy: 2, expectedPods: 2}}`, "", true},
		"of none":           {`{metadata: {generation: 1}, spec: {}, status: {observedGeneration: 1, desiredHealthy: 2, expectedPods: 2}}`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			db := workload(t, StatefulSet, `{spec: {replicas: 2, template: {metadata: {labels: {app: alpha}}}}}`)
			a.set(db, manifest(PodDisruptionBudget, "dgraph", "b", fromYAML(t, test.budget).Object))
			c := a.connect(t)
			w, err := c.Workload(t.Context(), Ref{StatefulSet, "dgraph", "alpha"})
			if err != nil {
				t.Fatal(err)
			}
			_, delay, err := c.takeTurn(t.Context(), w)
			var never *BudgetError
			if errors.As(err, &never) != test.never || (err != nil) != test.never || (delay == "") != (test.delay == "") || !strings.Contains(delay, test.delay) {
				t.Errorf("delay %q, error %v", delay, err)
			}
		})
	}
}

// A failure of the API server ends a rollout like any other, and says how far it
// came.
func TestRollOfWhatMayNotBeChanged(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(workload(t, Deployment, `{spec: {replicas: 0}}`))
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch {
			return false
		}
		refusal(403, "Forbidden", `User "ci" cannot patch resource "deployments" in API group "apps" in the namespace "dgraph"`, nil)(w, r)
		return true
	}
	c := a.connect(t)
	beta := Ref{Deployment, "dgraph", "beta"}
	report, err := c.Roll(t.Context(), Rollout{Stages: [][]Ref{{alpha}, {beta}}, At: time.Unix(0, 0)})
	var failure *RolloutError
	if !errors.As(err, &failure) || failure.Workload != alpha || !slices.Equal(failure.Unbegun, []Ref{beta}) || !slices.Equal(report.Unbegun, []Ref{alpha, beta}) || !strings.Contains(Advice(err), `verb "patch"`) {
		t.Errorf("report %v, %v, advice %q", report, err, Advice(err))
	}
	if n := a.count("PATCH " + refPath(alpha)); n != 1 {
		t.Errorf("%d attempts", n)
	}
	if _, err := c.Roll(t.Context(), Rollout{Stages: [][]Ref{{{Pod, "dgraph", "p"}}}}); err == nil {
		t.Error("rolled a pod")
	}
	if report, err := c.Roll(t.Context(), Rollout{}); err != nil || len(report.Done) > 0 {
		t.Errorf("of nothing: %v, %v", report, err)
	}
}

// What took a workload's name meanwhile is restarted in its stead, by its own
// right.
func TestRollOfWhatIsReplaced(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	replica := func() map[string]any { return workload(t, Deployment, `{spec: {replicas: 0}}`) }
	a.set(replica())
	replaced := false
	a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && !replaced {
			replaced = true
			a.remove(alpha)
			a.set(replica())
		}
		return false
	}
	at := time.Date(2026, 9, 1, 11, 0, 0, 0, time.UTC)
	report, err := a.connect(t).Roll(t.Context(), Rollout{Stages: [][]Ref{{alpha}}, At: at})
	if err != nil || !slices.Equal(report.Done, []Ref{alpha}) {
		t.Errorf("report %v, %v", report, err)
	}
	if w, err := a.connect(t).Workload(t.Context(), alpha); err != nil || !w.restartedAt(at) {
		t.Errorf("%v, %v", w, err)
	}
}

func TestReleaseOfWhatIsKnownAsksForNothing(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	c := a.connect(t)
	ref := Ref{NetworkPolicy, "a", "p"}
	apply := func() {
		t.Helper()
		labels := map[string]any{"metadata": map[string]any{"labels": map[string]any{"k": "v"}}}
		if _, err := c.Apply(t.Context(), wrap(manifest(NetworkPolicy, "a", "p", labels)), ApplyOptions{Manager: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.NetworkPolicies(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for gets := range 2 {
		apply()
		if gets > 0 {
			// Somebody replaces it, and the same manager applies to the replacement.
			a.remove(ref)
			other := a.connect(t)
			c, other = other, c
			apply()
			c = other
		}
		released, err := c.Release(t.Context(), ref, "m")
		if err != nil || len(released.GetLabels()) > 0 || a.count("GET "+refPath(ref)) != gets {
			t.Errorf("released %v, %v, %d reads", released, err, a.count("GET "+refPath(ref)))
		}
	}
}

// A turn lasts until the rollout was awaited, or nobody is left who could.
func TestATurnEnds(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	budget := `{metadata: {generation: 1}, spec: {selector: {matchLabels: {app: alpha}}}, status: {observedGeneration: 1, disruptionsAllowed: 2, currentHealthy: 4, desiredHealthy: 2, expectedPods: 4}}`
	finished := `{spec: {replicas: 2, strategy: {type: Recreate}, template: {metadata: {labels: {app: alpha}}}}, status: {replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2}}`
	beta := Ref{Deployment, "dgraph", "beta"}
	other := workload(t, Deployment, finished)
	other["metadata"].(map[string]any)["name"] = beta.Name //nolint:forcetypeassert // Made so.
	a.set(workload(t, Deployment, finished), other, manifest(PodDisruptionBudget, "dgraph", "b", fromYAML(t, budget).Object))
	c := a.connect(t)
	for name, end := range map[string]func(cancel func()){
		"with the rollout": func(func()) {
			if err := c.AwaitRollouts(t.Context(), 0, alpha); err != nil {
				t.Error(err)
			}
		},
		"with its context": func(cancel func()) { cancel() },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if err := c.AwaitBudget(ctx, alpha); err != nil {
			t.Fatal(err)
		}
		if err := c.AwaitBudget(ctx, alpha); err != nil {
			t.Fatalf("once more: %v", err)
		}
		w, err := c.Workload(ctx, beta)
		if err != nil {
			t.Fatal(err)
		}
		if _, delay, err := c.takeTurn(ctx, w); err != nil || !strings.Contains(delay, "Deployment dgraph/alpha to roll out first, which is under the same PodDisruptionBudget dgraph/b") {
			t.Errorf("%s: delay %q, %v", name, delay, err)
		}
		waited := make(chan error, 1)
		go func() { waited <- c.AwaitBudget(t.Context(), beta) }()
		end(cancel)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		cancel()
		if err := c.AwaitRollouts(t.Context(), 0, beta); err != nil {
			t.Error(err)
		}
	}
}
