package kube

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func workload(t *testing.T, kind Kind, fields string) map[string]any {
	t.Helper()
	content := fromYAML(t, fields).Object
	m := manifest(kind, "dgraph", "alpha", content)
	spec, ok := m["spec"].(map[string]any)
	if !ok {
		spec = map[string]any{}
		m["spec"] = spec
	}
	spec["selector"] = map[string]any{"matchLabels": map[string]any{"app": "alpha"}}
	return m
}

func TestUnfinished(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind   Kind
		fields string
		want   string
	}{
		"deployment done":            {Deployment, `{metadata: {generation: 2}, spec: {replicas: 3}, status: {observedGeneration: 2, replicas: 3, updatedReplicas: 3, readyReplicas: 3, availableReplicas: 3}}`, ""},
		"deployment not seen":        {Deployment, `{metadata: {generation: 3}, spec: {replicas: 3}, status: {observedGeneration: 2, replicas: 3, updatedReplicas: 3, readyReplicas: 3, availableReplicas: 3}}`, "has not seen the last change"},
		"deployment updating":        {Deployment, `{spec: {replicas: 3}, status: {replicas: 4, updatedReplicas: 1, availableReplicas: 3}}`, "1 of 3 pods updated"},
		"deployment with old pods":   {Deployment, `{spec: {replicas: 3}, status: {replicas: 4, updatedReplicas: 3, availableReplicas: 3}}`, "1 old pods still running"},
		"deployment not available":   {Deployment, `{spec: {replicas: 3}, status: {replicas: 3, updatedReplicas: 3, availableReplicas: 2}}`, "2 of 3 pods available"},
		"deployment of none":         {Deployment, `{spec: {replicas: 0}, status: {}}`, ""},
		"deployment by default":      {Deployment, `{spec: {}, status: {}}`, "0 of 1 pods updated"},
		"stateful set done":          {StatefulSet, `{spec: {replicas: 2}, status: {replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2}}`, ""},
		"stateful set updating":      {StatefulSet, `{spec: {replicas: 2}, status: {replicas: 2, updatedReplicas: 1, readyReplicas: 2, availableReplicas: 2}}`, "1 of 2 pods updated"},
		"stateful set by partition":  {StatefulSet, `{spec: {replicas: 3, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}}, status: {replicas: 3, updatedReplicas: 1, readyReplicas: 3, availableReplicas: 3}}`, ""},
		"partition above the number": {StatefulSet, `{spec: {replicas: 1, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 5}}}, status: {replicas: 1, updatedReplicas: 0, readyReplicas: 1, availableReplicas: 1}}`, ""},
		"on delete":                  {StatefulSet, `{spec: {replicas: 1, updateStrategy: {type: OnDelete}}, status: {replicas: 1, updatedReplicas: 0, readyReplicas: 1, availableReplicas: 1}}`, ""},
		"daemon set done":            {DaemonSet, `{spec: {}, status: {desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 2, numberReady: 2, numberAvailable: 2}}`, ""},
		"daemon set updating":        {DaemonSet, `{spec: {}, status: {desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 1, numberReady: 2, numberAvailable: 2}}`, "1 of 2 pods updated"},
		"daemon set not available":   {DaemonSet, `{spec: {}, status: {desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 2, numberReady: 1, numberAvailable: 1}}`, "1 of 2 pods available"},
		"daemon set without nodes":   {DaemonSet, `{spec: {}, status: {desiredNumberScheduled: 0}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.set(workload(t, test.kind, test.fields))
			w, err := a.connect(t).Workload(t.Context(), Ref{test.kind, "dgraph", "alpha"})
			if err != nil {
				t.Fatal(err)
			}
			if got := w.Unfinished(); test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 9, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	for name, test := range map[string]struct {
		kind    Kind
		spec    string
		refusal string
	}{
		"deployment":   {Deployment, `{spec: {replicas: 0, template: {metadata: {annotations: {keep: me}}}}}`, ""},
		"stateful set": {StatefulSet, `{spec: {replicas: 0, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}}}`, ""},
		"daemon set":   {DaemonSet, `{}`, ""},
		"paused":       {Deployment, `{spec: {paused: true}}`, "paused"},
		"on delete":    {StatefulSet, `{spec: {updateStrategy: {type: OnDelete}}}`, "OnDelete"},
		"on delete ds": {DaemonSet, `{spec: {updateStrategy: {type: OnDelete}}}`, "OnDelete"},
		"partition":    {StatefulSet, `{spec: {updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}}}`, "partition 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.set(workload(t, test.kind, test.spec))
			ref := Ref{test.kind, "dgraph", "alpha"}
			report, err := a.connect(t).Roll(t.Context(), Rollout{Stages: [][]Ref{{ref}}, At: at})
			annotations := a.get(ref).Object["spec"].(map[string]any)["template"] //nolint:forcetypeassert // Written above.
			if test.refusal != "" {
				if err != nil || len(report.Unreachable) != 1 || report.Unreachable[0].Ref != ref || !strings.Contains(report.Unreachable[0].Error(), test.refusal) || annotations != nil {
					t.Errorf("report %v, %v", report, err)
				}
				return
			}
			if err != nil || !slices.Equal(report.Done, []Ref{ref}) {
				t.Fatalf("report %v, %v", report, err)
			}
			w, err := a.connect(t).Workload(t.Context(), ref)
			if err != nil || w.Template.Annotations[RestartAnnotation] != "2026-09-01T11:00:00Z" {
				t.Errorf("template %v, %v", w.Template.Annotations, err)
			}
			if name == "deployment" && w.Template.Annotations["keep"] != "me" {
				t.Error("another annotation is gone")
			}
		})
	}
	a := newAPI(t)
	if report, err := a.connect(t).Roll(t.Context(), Rollout{Stages: [][]Ref{{alpha}}, At: at}); err != nil || len(report.Done) > 0 {
		t.Errorf("of nothing: report %v, %v", report, err)
	}
}

func TestAwaitRollouts(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.set(workload(t, Deployment, `{metadata: {generation: 2}, spec: {replicas: 1}, status: {observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1}}`))
	a.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") == "true" {
			a.set(workload(t, Deployment, `{metadata: {generation: 2}, spec: {replicas: 1}, status: {observedGeneration: 2, replicas: 2, updatedReplicas: 1, availableReplicas: 1}}`))
			a.set(workload(t, Deployment, `{metadata: {generation: 2}, spec: {replicas: 1}, status: {observedGeneration: 2, replicas: 1, updatedReplicas: 1, availableReplicas: 1}}`))
		}
		return false
	}
	if err := a.connect(t).AwaitRollouts(t.Context(), 0, nil, alpha); err != nil {
		t.Error(err)
	}
}

func controlledBy(kind Kind, name string) map[string]any {
	return map[string]any{"metadata": map[string]any{"ownerReferences": []any{map[string]any{
		"apiVersion": kind.GVK().GroupVersion().String(), "kind": kind.Name, "name": name, "uid": "u", "controller": true,
	}}}}
}

func event(name string, about Ref, reason, message string) map[string]any {
	return manifest(Event, about.Namespace, name, map[string]any{
		"involvedObject": map[string]any{"kind": about.Kind.Name, "name": about.Name, "namespace": about.Namespace},
		"type":           "Warning", "reason": reason, "message": message, "lastTimestamp": "2026-09-01T12:00:00Z",
	})
}

func TestATimeoutSaysWhatTheClusterSays(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	waiting := map[string]any{"status": map[string]any{"containerStatuses": []any{map[string]any{
		"name": "proxy", "state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff", "message": `Back-off pulling image "x"`}},
	}}}}
	unschedulable := map[string]any{"status": map[string]any{"conditions": []any{map[string]any{
		"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available",
	}}}}
	db := Ref{StatefulSet, "dgraph", "alpha"}
	a.set(
		workload(t, Deployment, `{spec: {replicas: 3}, status: {replicas: 2, updatedReplicas: 2, conditions: [{type: ReplicaFailure, status: "True", reason: FailedCreate, message: "exceeded quota: compute, requested: cpu=1"}]}}`),
		workload(t, StatefulSet, `{spec: {replicas: 1}, status: {}}`),
		manifest(ReplicaSet, "dgraph", "alpha-1", controlledBy(Deployment, "alpha")),
		pod("dgraph", "alpha-1-x", labelled(controlledBy(ReplicaSet, "alpha-1"), "x", "y"), waiting),
		pod("dgraph", "alpha-1-y", labelled(controlledBy(ReplicaSet, "alpha-1"), "x", "y"), unschedulable),
		pod("dgraph", "stranger", waiting),
		event("e1", db, "FailedCreate", `create Pod alpha-0 failed: admission webhook "policy" denied the request`),
		event("e2", Ref{Pod, "dgraph", "stranger"}, "Failed", "not ours"),
	)
	// Long enough for a first look on a machine that is busy with other tests.
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := a.connect(t).AwaitReady(ctx, alpha, db)
	var wait *WaitError
	if !errors.As(err, &wait) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error: %v", err)
	}
	want := []string{
		"Deployment dgraph/alpha: FailedCreate: exceeded quota: compute, requested: cpu=1",
		`Pod dgraph/alpha-1-x: container proxy: ImagePullBackOff: Back-off pulling image "x"`,
		"Pod dgraph/alpha-1-y: Unschedulable: 0/3 nodes are available",
		`StatefulSet dgraph/alpha: FailedCreate: create Pod alpha-0 failed: admission webhook "policy" denied the request`,
	}
	if got := strings.Split(wait.Details, "\n"); !slices.Equal(got, want) {
		t.Errorf("details:\n%s", wait.Details)
	}
	if wait.Waiting != "Deployment dgraph/alpha: 2 of 3 pods updated, StatefulSet dgraph/alpha: 0 of 1 pods updated" {
		t.Errorf("waiting for %q", wait.Waiting)
	}
}

func TestAwaitReadyOfOtherKinds(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	crd := Ref{Kind: CustomResourceDefinition, Name: "servers.policy.linkerd.io"}
	job, single := Ref{Job, "dgraph", "load"}, Ref{Pod, "dgraph", "one"}
	secret, service := Ref{Secret, "dgraph", "s"}, Ref{Service, "dgraph", "s"}
	established := fromYAML(t, `{spec: {group: policy.linkerd.io}, status: {conditions: [{type: Established, status: "True"}]}}`).Object
	complete := fromYAML(t, `{status: {succeeded: 1, conditions: [{type: Complete, status: "True"}]}}`).Object
	ready := fromYAML(t, `{status: {conditions: [{type: Ready, status: "True"}]}}`).Object
	stages := []func(){
		func() { a.set(manifest(CustomResourceDefinition, "", crd.Name), manifest(Secret, "dgraph", "s")) },
		func() { a.set(manifest(CustomResourceDefinition, "", crd.Name, established), pod("dgraph", "one")) },
		func() { a.set(manifest(Job, "dgraph", "load"), manifest(Service, "dgraph", "s")) },
		func() { a.set(manifest(Job, "dgraph", "load", complete), pod("dgraph", "one", ready)) },
	}
	c := a.connect(t)
	done := make(chan error, 1)
	go func() { done <- c.AwaitReady(t.Context(), crd, job, single, secret, service) }()
	for _, stage := range stages {
		select {
		case err := <-done:
			t.Fatalf("too early: %v", err)
		default:
			stage()
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	a.set(manifest(Job, "dgraph", "load", fromYAML(t, `{status: {conditions: [{type: Failed, status: "True", reason: BackoffLimitExceeded, message: m}]}}`).Object))
	if err := a.connect(t).AwaitReady(t.Context(), job); err == nil || err.Error() != "Job dgraph/load failed: BackoffLimitExceeded: m" {
		t.Errorf("error: %v", err)
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	rollout := Kind{Group: "argoproj.io", Version: "v1alpha1", Name: "Rollout"}
	a.set(
		workload(t, Deployment, `{spec: {}}`),
		manifest(ReplicaSet, "dgraph", "rs", controlledBy(Deployment, "alpha")),
		manifest(ReplicaSet, "dgraph", "lone"),
		manifest(Job, "dgraph", "job", controlledBy(CronJob, "nightly")),
		pod("dgraph", "of-deployment", labelled(controlledBy(ReplicaSet, "rs"), "x", "y")),
		pod("dgraph", "of-deployment-too", labelled(controlledBy(ReplicaSet, "rs"), "x", "y")),
		pod("dgraph", "of-lone", controlledBy(ReplicaSet, "lone")),
		pod("dgraph", "of-gone", controlledBy(ReplicaSet, "gone")),
		pod("dgraph", "of-cron", controlledBy(Job, "job")),
		pod("dgraph", "of-db", controlledBy(StatefulSet, "db")),
		pod("dgraph", "of-rollout", controlledBy(rollout, "r")),
		pod("dgraph", "bare"),
	)
	c := a.connect(t)
	pods, err := c.Pods(t.Context(), "dgraph")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range pods {
		owner, err := c.OwnerOf(t.Context(), p)
		if err != nil {
			t.Error(err)
		}
		got[p.Name] = owner.String()
	}
	for name, want := range map[string]string{
		"of-deployment": "Deployment dgraph/alpha", "of-lone": "ReplicaSet dgraph/lone", "of-gone": "ReplicaSet dgraph/gone",
		"of-cron": "CronJob dgraph/nightly", "of-db": "StatefulSet dgraph/db", "of-rollout": "Rollout dgraph/r", "bare": "Pod dgraph/bare",
	} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
	owned, err := c.PodsOf(t.Context(), alpha)
	if err != nil || len(owned) != 2 {
		t.Errorf("%d pods, %v", len(owned), err)
	}
	all, err := c.Workloads(t.Context(), "dgraph")
	if err != nil || len(all) != 1 || all[0].Ref != alpha {
		t.Errorf("workloads %v, %v", all, err)
	}
	if n := a.count("LIST /apis/apps/v1/replicasets"); n != 1 {
		t.Errorf("%d lists of replica sets", n)
	}
}

func TestPodProblem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{status: {phase: Running}}`: "",
		`{status: {containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}]}}`:                                                                                                      "",
		`{status: {containerStatuses: [{name: a, state: {waiting: {reason: CrashLoopBackOff, message: "back-off 5m0s"}}, lastState: {terminated: {exitCode: 1, reason: Error}}}]}}`:                      "container a: CrashLoopBackOff: back-off 5m0s (last exit code 1, Error)",
		`{status: {initContainerStatuses: [{name: i, state: {waiting: {reason: ErrImagePull}}}], containerStatuses: [{name: a, state: {waiting: {reason: PodInitializing}}}]}}`:                          "container i: ErrImagePull",
		`{status: {phase: Failed, reason: Evicted, message: "The node was low on resource: memory."}}`:                                                                                                   "Evicted: The node was low on resource: memory.",
		`{status: {initContainerStatuses: [{name: i, state: {terminated: {exitCode: 0, reason: Completed}}}], containerStatuses: [{name: a, state: {terminated: {exitCode: 137, reason: OOMKilled}}}]}}`: "container a: OOMKilled, exit code 137",
	} {
		a := newAPI(t)
		a.set(pod("a", "p", fromYAML(t, text).Object))
		pods, err := a.connect(t).Pods(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := PodProblem(pods[0]); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if PodProblem(&corev1.Pod{}) != "" {
		t.Error("a problem without a status")
	}
}
