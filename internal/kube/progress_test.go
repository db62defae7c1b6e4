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
		"a refusal by condition":   {Deployment, `{status: {conditions: [{type: ReplicaFailure, status: "True", reason: FailedCreate, message: quota}, {type: Progressing, status: "False", reason: ProgressDeadlineExceeded, message: m}]}}`, nil, []string{"ProgressDeadlineExceeded: m", "FailedCreate: quota"}},
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
			found, err := c.signs(t.Context(), w)
			got := found.reasons
			if found.refusal != "" {
				got = append(got, found.refusal)
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v", got, err)
			}
			if n := a.count("GET " + refPath(Ref{ReplicaSet, "dgraph", "unknown"})); n > 0 {
				t.Error("asked for a ReplicaSet")
			}
		})
	}
}

// age lets time pass.
func (p *progress) age(by time.Duration) {
	for _, at := range []*time.Time{&p.moved, &p.looked, &p.since, &p.tried} {
		if !at.IsZero() {
			*at = at.Add(-by)
		}
	}
}

// Controllers retry later and later: what they said of an earlier attempt may be
// over.
func TestARefusalCountsWhenItIsRepeated(t *testing.T) {
	t.Parallel()
	const patience = 40 * time.Second
	db := Ref{StatefulSet, "dgraph", "alpha"}
	for name, test := range map[string]struct {
		object map[string]any
		maker  Ref
	}{
		"by a condition": {workload(t, Deployment, `{metadata: {annotations: {deployment.kubernetes.io/revision: "1"}}, spec: {replicas: 1}, status: {conditions: [{type: ReplicaFailure, status: "True", reason: FailedCreate, message: refused}]}}`), Ref{ReplicaSet, "dgraph", "rs"}},
		"by an event":    {workload(t, StatefulSet, `{spec: {replicas: 1}}`), db},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			set := controlledBy(Deployment, "alpha")
			set["metadata"].(map[string]any)["annotations"] = map[string]any{deploymentRevision: "1"} //nolint:forcetypeassert // Made above.
			refuse := func() { a.set(event("e1", test.maker, "FailedCreate", "refused")) }
			a.set(test.object, manifest(ReplicaSet, "dgraph", "rs", set))
			refuse()
			c := a.connect(t)
			kind := Deployment
			if test.maker == db {
				kind = StatefulSet
			}
			w, err := c.Workload(t.Context(), Ref{kind, "dgraph", "alpha"})
			if err != nil {
				t.Fatal(err)
			}
			for _, repeated := range []bool{true, false} {
				p := newProgress(w, patience, nil)
				check := func(after time.Duration) error {
					p.age(after)
					return p.check(t.Context(), c, w)
				}
				// An attempt within the time says nothing about what is then.
				for i, after := range []time.Duration{patience, patience / 2, patience, patience / 2} {
					if i == 1 {
						refuse()
					}
					if err := check(after); err != nil {
						t.Fatalf("%d: %v", i, err)
					}
				}
				last := 2 * patience
				if repeated {
					refuse()
					last = patience / 4
				}
				var failure *RolloutError
				if err := check(last); !errors.As(err, &failure) || failure.Reason != "FailedCreate: refused" {
					t.Errorf("repeated %t: %v", repeated, err)
				}
			}
		})
	}
}

// Events only tell more: who may not read them waits without.
func TestARolloutNeedsNoEvents(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(workload(t, StatefulSet, `{spec: {replicas: 1}, status: {}}`))
	a.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/events") {
			return false
		}
		a.set(workload(t, StatefulSet, `{spec: {replicas: 1}, status: {replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1}}`))
		refusal(403, "Forbidden", `User "ci" cannot list resource "events" in API group "" in the namespace "dgraph"`, nil)(w, r)
		return true
	}
	if err := a.connect(t).AwaitRollouts(t.Context(), 50*time.Millisecond, nil, Ref{StatefulSet, "dgraph", "alpha"}); err != nil {
		t.Error(err)
	}
	if a.count("LIST /api/v1/namespaces/dgraph/events") == 0 {
		t.Error("no events were asked for")
	}
}

// The pod that a StatefulSet waits for in vain is deleted, and only that one.
func TestUnblock(t *testing.T) {
	t.Parallel()
	const patience = 40 * time.Second
	ref := Ref{StatefulSet, "dgraph", "alpha"}
	const set = `{metadata: {uid: u, generation: 1}, spec: {replicas: 3, ordinals: {start: 1}%s}, status: {observedGeneration: %d, replicas: 3, updatedReplicas: 1, updateRevision: new}}`
	ready := fromYAML(t, `{status: {conditions: [{type: Ready, status: "True"}]}}`).Object
	unready := fromYAML(t, `{status: {phase: Running}}`).Object
	going := fromYAML(t, `{metadata: {deletionTimestamp: "2026-09-01T12:00:00Z"}}`).Object
	stuck := state(t, "CrashLoopBackOff")
	member := func(ordinal int, revision string, more ...map[string]any) map[string]any {
		fields := append([]map[string]any{labelled(controlledBy(StatefulSet, "alpha"), "controller-revision-hash", revision)}, more...)
		return pod("dgraph", fmt.Sprintf("alpha-%d", ordinal), fields...)
	}
	stranger := member(1, "old", stuck)
	stranger["metadata"].(map[string]any)["ownerReferences"] = nil //nolint:forcetypeassert // Made above.
	for name, test := range map[string]struct {
		spec     string
		observed int
		after    time.Duration
		pods     []map[string]any
		deleted  string
	}{
		"stuck":                  {"", 1, patience / 2, []map[string]any{member(1, "old", stuck), member(2, "old", stuck), member(3, "new", stuck)}, "alpha-1"},
		"behind one that is not": {"", 1, patience / 2, []map[string]any{member(1, "old", ready), member(2, "old", stuck), member(3, "new", ready)}, "alpha-2"},
		"unready":                {"", 1, patience, []map[string]any{member(1, "old", unready), member(2, "old", ready), member(3, "new", ready)}, "alpha-1"},
		"unready for a while":    {"", 1, patience / 2, []map[string]any{member(1, "old", unready), member(2, "old", stuck), member(3, "new", ready)}, ""},
		"behind a new one":       {"", 1, patience, []map[string]any{member(1, "new", unready), member(2, "old", stuck), member(3, "new", ready)}, ""},
		"behind one that goes":   {"", 1, patience, []map[string]any{member(1, "old", going, stuck), member(2, "old", stuck), member(3, "new", ready)}, ""},
		"behind one to be made":  {"", 1, patience, []map[string]any{member(2, "old", stuck), member(3, "new", ready)}, ""},
		"of another":             {"", 1, patience, []map[string]any{stranger, member(2, "old", stuck), member(3, "new", ready)}, ""},
		"all are ready":          {"", 1, patience, []map[string]any{member(1, "old", ready), member(2, "old", ready), member(3, "new", ready)}, ""},
		"by hand":                {", updateStrategy: {type: OnDelete}", 1, patience, []map[string]any{member(1, "old", stuck)}, ""},
		"partition":              {", updateStrategy: {rollingUpdate: {partition: 1}}", 1, patience, []map[string]any{member(1, "old", stuck)}, ""},
		"not seen":               {"", 0, patience, []map[string]any{member(1, "old", stuck)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.set(workload(t, StatefulSet, fmt.Sprintf(set, test.spec, test.observed)))
			a.set(test.pods...)
			c := a.connect(t)
			w, err := c.Workload(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			var told []string
			p := newProgress(w, patience, func(_ string, fields map[string]any) { told = append(told, fmt.Sprint(fields["pod"])) })
			p.age(test.after)
			if err := p.check(t.Context(), c, w); err != nil {
				t.Error(err)
			}
			var deleted, want []string
			for ordinal := range 4 {
				pod := Ref{Pod, "dgraph", fmt.Sprintf("alpha-%d", ordinal)}
				if a.count("DELETE "+refPath(pod)) > 0 {
					deleted = append(deleted, pod.String())
				}
			}
			if test.deleted != "" {
				want = []string{"Pod dgraph/" + test.deleted}
			}
			if !slices.Equal(deleted, want) || !slices.Equal(told, want) {
				t.Errorf("deleted %q, told of %q", deleted, told)
			}
		})
	}
}

// What a workload's own pods lack already is nothing that its rollout takes.
func TestABudgetAllowsTheRepairOfItsOwnPods(t *testing.T) {
	t.Parallel()
	const budget = `{metadata: {generation: 1}, spec: {selector: {matchLabels: {app: alpha}}}, status: {observedGeneration: 1, disruptionsAllowed: 0, currentHealthy: %d, desiredHealthy: %d, expectedPods: 3}}`
	const set = `{spec: {replicas: 3, template: {metadata: {labels: {app: alpha}}}%s}, status: {replicas: 3, readyReplicas: %d}}`
	for name, test := range map[string]struct {
		spec                   string
		ready, healthy, needed int
		delay                  string
	}{
		"one is down":                  {"", 2, 2, 2, ""},
		"all are down":                 {"", 0, 0, 2, ""},
		"others are down":              {"", 3, 2, 2, "it allows 0 now: 2 of 3 pods are healthy, 2 have to be"},
		"in any order":                 {", podManagementPolicy: Parallel", 2, 2, 2, "2 have to be; 1 of its own are not"},
		"in any order, all are down":   {", podManagementPolicy: Parallel", 0, 0, 2, ""},
		"others and one of it is down": {"", 2, 1, 2, "2 have to be; 1 of its own are not"},
		"by hand":                      {", updateStrategy: {type: OnDelete}", 3, 2, 3, ""},
		"partition":                    {", updateStrategy: {rollingUpdate: {partition: 3}}", 3, 2, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.set(workload(t, StatefulSet, fmt.Sprintf(set, test.spec, test.ready)), manifest(PodDisruptionBudget, "dgraph", "b", fromYAML(t, fmt.Sprintf(budget, test.healthy, test.needed)).Object))
			c := a.connect(t)
			w, err := c.Workload(t.Context(), Ref{StatefulSet, "dgraph", "alpha"})
			if err != nil {
				t.Fatal(err)
			}
			if _, delay, err := c.takeTurn(t.Context(), w); err != nil || (delay == "") != (test.delay == "") || !strings.HasSuffix(delay, test.delay) {
				t.Errorf("delay %q, %v", delay, err)
			}
		})
	}
}

// What another has restarted since it was looked at is not restarted again.
func TestRollOfWhatAnotherRestarts(t *testing.T) {
	t.Parallel()
	restarted := func(at string) map[string]any {
		return workload(t, Deployment, fmt.Sprintf(`{spec: {replicas: 0, template: {metadata: {annotations: {%s: "%s"}}}}}`, RestartAnnotation, at))
	}
	at := time.Date(2026, 9, 1, 11, 0, 0, 0, time.UTC)
	const before, other = "2026-09-01T10:00:00Z", "2026-09-01T10:59:00Z"
	for name, test := range map[string]struct {
		seen      map[Ref]string
		meanwhile bool // another restarts it just before
		want      string
		patches   int
	}{
		"not seen":    {nil, false, restartValue(at), 1},
		"as seen":     {map[Ref]string{alpha: before}, false, restartValue(at), 1},
		"since":       {map[Ref]string{alpha: ""}, false, before, 0},
		"at the time": {map[Ref]string{alpha: before}, true, other, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.set(restarted(before))
			a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
				if test.meanwhile && r.Method == http.MethodPatch {
					a.set(restarted(other))
				}
				return false
			}
			c := a.connect(t)
			report, err := c.Roll(t.Context(), Rollout{Stages: [][]Ref{{alpha}}, At: at, Seen: test.seen})
			if err != nil || !slices.Equal(report.Done, []Ref{alpha}) {
				t.Errorf("report %v, %v", report, err)
			}
			if w, err := c.Workload(t.Context(), alpha); err != nil || w.Template.Annotations[RestartAnnotation] != test.want || a.count("PATCH "+refPath(alpha)) != test.patches {
				t.Errorf("%v, %v, %d patches", w.Template.Annotations, err, a.count("PATCH "+refPath(alpha)))
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
	p := newProgress(w, patience, nil)
	check := func(after time.Duration) error {
		p.age(after)
		return p.check(t.Context(), c, w)
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
	err := a.connect(t).AwaitRollouts(t.Context(), 50*time.Millisecond, nil, alpha)
	want := "Deployment dgraph/alpha does not roll out: ProgressDeadlineExceeded: ReplicaSet has timed out progressing.\nPod dgraph/a: Unhealthy: Readiness probe failed: 503"
	if err == nil || err.Error() != want {
		t.Errorf("error: %v", err)
	}
	if err := a.connect(t).AwaitRollouts(t.Context(), 0, nil, Ref{Deployment, "dgraph", "none"}); !errors.Is(err, ErrNotFound) {
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
		`{spec: {replicas: 3, updateStrategy: {rollingUpdate: {partition: 2, maxUnavailable: 2}}}}`:                        {StatefulSet, 1},
		`{spec: {replicas: 3, updateStrategy: {rollingUpdate: {partition: 4}}}}`:                                           {StatefulSet, 0},
		`{spec: {replicas: 3, updateStrategy: {type: OnDelete}}}`:                                                          {StatefulSet, 0},
		`{spec: {replicas: 3, paused: true, strategy: {type: Recreate}}}`:                                                  {Deployment, 0},
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
			db := workload(t, StatefulSet, `{spec: {replicas: 2, template: {metadata: {labels: {app: alpha}}}}, status: {readyReplicas: 2}}`)
			a.set(db, manifest(PodDisruptionBudget, "dgraph", "b", fromYAML(t, test.budget).Object))
			c := a.connect(t)
			w, err := c.Workload(t.Context(), Ref{StatefulSet, "dgraph", "alpha"})
			if err != nil {
				t.Fatal(err)
			}
			_, delay, err := c.takeTurn(t.Context(), w)
			var never *BudgetError
			if errors.As(c.CheckBudget(t.Context(), w.Ref), &never) != test.never {
				t.Errorf("checked: %v", never)
			}
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
			if err := c.AwaitRollouts(t.Context(), 0, nil, alpha); err != nil {
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
		if err := c.AwaitRollouts(t.Context(), 0, nil, beta); err != nil {
			t.Error(err)
		}
	}
}

// Pods are left to a rollout that is under way, unless it has failed or has made
// them itself.
func TestReplaces(t *testing.T) {
	t.Parallel()
	const set = `{metadata: {generation: 2}, spec: {replicas: 2%s}, status: {observedGeneration: %d, replicas: 2, updatedReplicas: %d, availableReplicas: 2, updateRevision: new}}`
	ref := Ref{StatefulSet, "dgraph", "alpha"}
	for name, test := range map[string]struct {
		spec              string
		observed, updated int
		pod               string // revision
		more              string // state of another pod of the newest template
		want              bool
	}{
		"under way":        {"", 2, 1, "old", "ContainerCreating", true},
		"of the newest":    {"", 2, 1, "new", "ContainerCreating", false},
		"rolled out":       {"", 2, 2, "old", "ContainerCreating", false},
		"not seen yet":     {"", 1, 2, "new", "ContainerCreating", true},
		"failed":           {"", 2, 1, "old", "ImagePullBackOff", false},
		"out of its reach": {", updateStrategy: {rollingUpdate: {partition: 1}}", 1, 0, "old", "ContainerCreating", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.set(
				workload(t, StatefulSet, fmt.Sprintf(set, test.spec, test.observed, test.updated)),
				pod("dgraph", "alpha-0", labelled(controlledBy(StatefulSet, "alpha"), "controller-revision-hash", test.pod)),
				pod("dgraph", "alpha-1", labelled(controlledBy(StatefulSet, "alpha"), "controller-revision-hash", "new"), state(t, test.more)),
			)
			c := a.connect(t)
			pods, err := c.PodsOf(t.Context(), ref)
			if err != nil || len(pods) != 2 {
				t.Fatalf("%d pods, %v", len(pods), err)
			}
			if got, err := c.Replaces(t.Context(), ref, pods[:1]); err != nil || got != test.want {
				t.Errorf("%t, %v", got, err)
			}
			a.remove(ref)
			if got, err := a.connect(t).Replaces(t.Context(), ref, pods); err != nil || got {
				t.Errorf("gone: %t, %v", got, err)
			}
		})
	}
}
