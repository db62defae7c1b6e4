package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

var restartTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const restartStamp = "2026-01-01T00:00:00Z"

// A site is a namespace of the embedded cluster in which a test rolls out.
type site struct {
	*testing.T
	embedded  *testcluster.Cluster
	cluster   *kube.Cluster
	namespace string
}

func newSite(t *testing.T) *site {
	t.Helper()
	embedded, c := connect(t)
	return &site{t, embedded, c, embedded.Namespace(t)}
}

func (s *site) ref(kind kube.Kind, name string) kube.Ref {
	return kube.Ref{Kind: kind, Namespace: s.namespace, Name: name}
}

// deployment creates a Deployment, and waits for it if it can become ready.
func (s *site) deployment(name string, replicas int32, change ...func(*appsv1.Deployment)) kube.Ref {
	s.Helper()
	d := testcluster.NewDeployment(s.namespace, name, replicas)
	for _, c := range change {
		c(d)
	}
	if _, err := s.embedded.Client().AppsV1().Deployments(s.namespace).Create(s.Context(), d, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	return s.settled(s.ref(kube.Deployment, name), d.Spec.Template)
}

func (s *site) statefulSet(name string, replicas int32, change ...func(*appsv1.StatefulSet)) kube.Ref {
	s.Helper()
	d := testcluster.NewDeployment(s.namespace, name, replicas)
	o := &appsv1.StatefulSet{ObjectMeta: d.ObjectMeta, Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: d.Spec.Selector, Template: d.Spec.Template}}
	for _, c := range change {
		c(o)
	}
	if _, err := s.embedded.Client().AppsV1().StatefulSets(s.namespace).Create(s.Context(), o, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	return s.settled(s.ref(kube.StatefulSet, name), o.Spec.Template)
}

func (s *site) daemonSet(name string, change ...func(*appsv1.DaemonSet)) kube.Ref {
	s.Helper()
	d := testcluster.NewDeployment(s.namespace, name, 1)
	o := &appsv1.DaemonSet{ObjectMeta: d.ObjectMeta, Spec: appsv1.DaemonSetSpec{Selector: d.Spec.Selector, Template: d.Spec.Template}}
	for _, c := range change {
		c(o)
	}
	if _, err := s.embedded.Client().AppsV1().DaemonSets(s.namespace).Create(s.Context(), o, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	return s.settled(s.ref(kube.DaemonSet, name), o.Spec.Template)
}

func (s *site) settled(ref kube.Ref, template corev1.PodTemplateSpec) kube.Ref {
	s.Helper()
	if strings.HasSuffix(template.Spec.Containers[0].Image, ":does-not-exist") || len(template.Spec.NodeSelector) > 0 {
		return ref
	}
	if err := s.cluster.AwaitReady(within(s.T, time.Minute), ref); err != nil {
		s.Fatal(err)
	}
	if ref.Kind == kube.DaemonSet {
		// It is ready before its controller has counted the nodes.
		err := s.cluster.Await(within(s.T, time.Minute), ref.Namespace, []kube.Kind{ref.Kind}, func(ctx context.Context) (string, error) {
			if w, err := s.cluster.Workload(ctx, ref); err != nil || w.Available > 0 && w.Unfinished() == "" {
				return "", err
			}
			return "its pods", nil
		})
		if err != nil {
			s.Fatal(err)
		}
	}
	return ref
}

// budget creates a PodDisruptionBudget for the pods with a label, and waits
// until its controller has counted the pods.
func (s *site) budget(name, key, value string, change func(*policyv1.PodDisruptionBudgetSpec)) {
	s.Helper()
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}},
	}
	change(&b.Spec)
	if _, err := s.embedded.Client().PolicyV1().PodDisruptionBudgets(s.namespace).Create(s.Context(), b, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
}

func minAvailable(n int32) func(*policyv1.PodDisruptionBudgetSpec) {
	return func(spec *policyv1.PodDisruptionBudgetSpec) { spec.MinAvailable = new(intstr.FromInt32(n)) }
}

func maxUnavailable(n int32) func(*policyv1.PodDisruptionBudgetSpec) {
	return func(spec *policyv1.PodDisruptionBudgetSpec) { spec.MaxUnavailable = new(intstr.FromInt32(n)) }
}

// takingOne makes a Deployment take one pod down before another is there.
func takingOne(d *appsv1.Deployment) {
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: new(intstr.FromInt32(1)), MaxSurge: new(intstr.FromInt32(0))}
}

func tier(d *appsv1.Deployment) { d.Spec.Template.Labels["tier"] = "x" }

func missingImage(d *appsv1.Deployment) {
	d.Spec.Template.Spec.Containers[0].Image = "registry.invalid/app:does-not-exist"
}

// patch changes an object by a strategic merge patch.
func (s *site) patch(ctx context.Context, ref kube.Ref, body string) {
	s.Helper()
	var err error
	apps := s.embedded.Client().AppsV1()
	switch ref.Kind {
	case kube.Deployment:
		_, err = apps.Deployments(s.namespace).Patch(ctx, ref.Name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{})
	case kube.StatefulSet:
		_, err = apps.StatefulSets(s.namespace).Patch(ctx, ref.Name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{})
	case kube.Namespace:
		_, err = s.embedded.Client().CoreV1().Namespaces().Patch(ctx, ref.Name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{})
	default:
		s.Fatalf("patch %s", ref)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// restarted reports whether a workload's template carries the restart.
func (s *site) restarted(ref kube.Ref) bool {
	s.Helper()
	live, err := s.cluster.Get(s.Context(), ref)
	if err != nil {
		s.Fatal(err)
	}
	at, _, err := unstructured.NestedString(live.Object, "spec", "template", "metadata", "annotations", kube.RestartAnnotation)
	if err != nil {
		s.Fatal(err)
	}
	return at != ""
}

// record watches the Deployments of the namespace while something is done, and
// tells after each change which of them roll by a restart and which have rolled
// out, in the order in which the API server says so.
func (s *site) record(during func(), each func(rolling, done []string)) {
	s.Helper()
	client := s.embedded.Client().AppsV1().Deployments(s.namespace)
	list, err := client.List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	ctx := within(s.T, 3*time.Minute)
	events, err := client.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		s.Fatal(err)
	}
	defer events.Stop()
	during()
	// The watch has told everything once it tells of this one.
	const end = "end-of-recording"
	if _, err := client.Create(s.Context(), testcluster.NewDeployment(s.namespace, end, 0), metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
	state := map[string]*appsv1.Deployment{}
	for event := range events.ResultChan() {
		d, ok := event.Object.(*appsv1.Deployment)
		if !ok {
			s.Fatalf("watch: %v", event.Object)
		}
		if d.Name == end {
			return
		}
		state[d.Name] = d
		var rolling, done []string
		for name, d := range state {
			if d.Spec.Template.Annotations[kube.RestartAnnotation] == "" {
				continue
			}
			want, is := *d.Spec.Replicas, d.Status
			if is.ObservedGeneration >= d.Generation && is.UpdatedReplicas == want && is.Replicas == want && is.AvailableReplicas == want {
				done = append(done, name)
			} else {
				rolling = append(rolling, name)
			}
		}
		slices.Sort(rolling)
		slices.Sort(done)
		each(rolling, done)
	}
	s.Fatal("the watch has ended")
}

func TestAccRollGoesByStagesAndNumbers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	names := []string{"a", "b", "c", "d", "e"}
	refs := make([]kube.Ref, len(names))
	for i, name := range names {
		refs[i] = s.deployment(name, 2)
	}
	r := kube.Rollout{Stages: [][]kube.Ref{refs[:1], refs[1:4], refs[4:]}, MaxParallel: 2, At: restartTime}
	roll := func() {
		report, err := s.cluster.Roll(within(t, 2*time.Minute), r)
		if err != nil || !slices.Equal(sorted(report.Done), refs) || len(report.Unbegun)+len(report.Unreachable) > 0 {
			t.Errorf("report %v, %v", report, err)
		}
	}
	most := 0
	s.record(roll, func(rolling, done []string) {
		most = max(most, len(rolling))
		if len(rolling) > 2 {
			t.Errorf("%v roll at the same time", rolling)
		}
		begun := slices.Concat(rolling, done)
		if len(begun) > 1 && !slices.Contains(done, "a") || slices.Contains(begun, "e") && len(done) < 4 {
			t.Errorf("%v roll while only %v have rolled out", rolling, done)
		}
	})
	if most != 2 {
		t.Errorf("%d rolled at the same time", most)
	}
	generations := func() (all []int64) {
		for _, ref := range refs {
			w, err := s.cluster.Workload(t.Context(), ref)
			if err != nil || w.Template.Annotations[kube.RestartAnnotation] != restartStamp {
				t.Errorf("%+v, %v", w, err)
				continue
			}
			all = append(all, w.Generation)
		}
		return all
	}
	before := generations()
	roll() // With the same time it changes nothing.
	if after := generations(); !slices.Equal(before, after) {
		t.Errorf("generations were %v, are %v", before, after)
	}
}

func sorted(refs []kube.Ref) []kube.Ref {
	return slices.SortedFunc(slices.Values(refs), func(a, b kube.Ref) int { return strings.Compare(a.String(), b.String()) })
}

// A StatefulSet is left to its controller: the highest ordinal first, and one
// after the other.
func TestAccRollKeepsTheOrderOfAStatefulSet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ref := s.statefulSet("db", 3)
	pods := s.embedded.Client().CoreV1().Pods(s.namespace)
	list, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 3 {
		t.Fatalf("%d pods, %v", len(list.Items), err)
	}
	events, err := pods.Watch(within(t, 2*time.Minute), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	if report, err := s.cluster.Roll(within(t, 2*time.Minute), kube.Rollout{Stages: [][]kube.Ref{{ref}}, At: restartTime}); err != nil || len(report.Done) != 1 {
		t.Fatalf("report %v, %v", report, err)
	}
	var ready []string
	down := ""
	for len(ready) < 3 {
		event := <-events.ResultChan()
		p, ok := event.Object.(*corev1.Pod)
		if !ok {
			t.Fatalf("watch: %v", event.Object)
		}
		isReady := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		switch {
		case p.DeletionTimestamp != nil:
			if down != "" && down != p.Name {
				t.Errorf("%s is down together with %s", p.Name, down)
			}
			down = p.Name
		case p.Annotations[kube.RestartAnnotation] == restartStamp && isReady && !slices.Contains(ready, p.Name):
			ready = append(ready, p.Name)
			down = ""
		}
	}
	if !slices.Equal(ready, []string{"db-2", "db-1", "db-0"}) {
		t.Errorf("the order was %v", ready)
	}
}

func TestAccRollWaitsForABudget(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	db := s.statefulSet("db", 2, func(o *appsv1.StatefulSet) { o.Spec.Template.Labels["tier"] = "x" })
	broken := s.deployment("broken", 1, tier, missingImage)
	s.budget("two", "tier", "x", minAvailable(2))
	var waits []string
	report, err := s.cluster.Roll(within(t, 2*time.Minute), kube.Rollout{
		Stages: [][]kube.Ref{{db}}, At: restartTime,
		Log: func(message string, fields map[string]any) {
			if message != "waiting to restart" {
				return
			}
			waits = append(waits, fmt.Sprint(fields["workload"], ": ", fields["for"]))
			if s.restarted(db) {
				t.Error("restarted before the budget allowed it")
			}
			s.patch(s.Context(), broken, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.invalid/app:1"}]}}}}`)
		},
	})
	if err != nil || !slices.Equal(report.Done, []kube.Ref{db}) || !s.restarted(db) {
		t.Errorf("report %v, %v", report, err)
	}
	if len(waits) != 1 || !strings.Contains(waits[0], db.String()) {
		t.Errorf("waited for %q", waits)
	}
}

func TestAccABudgetThatNeverAllowsIsAnError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, web := s.deployment("first", 1), s.deployment("web", 2, takingOne)
	s.budget("all", "app", "web", minAvailable(2))
	// The budget's controller has to count the pods first.
	ctx := within(t, time.Minute)
	err := s.cluster.AwaitBudget(ctx, web)
	var never *kube.BudgetError
	want := kube.BudgetError{Workload: web, Budget: s.ref(kube.PodDisruptionBudget, "all"), Takes: 1, Expected: 2, Required: 2}
	if !errors.As(err, &never) || *never != want || kube.Advice(err) == "" {
		t.Errorf("error: %v, advice %q", err, kube.Advice(err))
	}
	r := kube.Rollout{Stages: [][]kube.Ref{{first}, {web}}, At: restartTime}
	report, err := s.cluster.Roll(ctx, r)
	var failure *kube.RolloutError
	if !errors.As(err, &failure) || failure.Workload != web || !errors.As(err, &never) || len(report.Unbegun) != 2 || s.restarted(first) || s.restarted(web) {
		t.Errorf("report %v, %v", report, err)
	}
	r.IgnoreBudgets = true
	if report, err = s.cluster.Roll(ctx, r); err != nil || len(report.Done) != 2 {
		t.Errorf("report %v, %v", report, err)
	}
	if err := s.cluster.AwaitBudget(ctx, first); err != nil {
		t.Errorf("of what has no budget: %v", err)
	}
}

// Workloads under one budget take turns, whoever rolls them.
func TestAccWorkloadsUnderOneBudgetTakeTurns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var refs []kube.Ref
	for _, name := range []string{"a", "b", "c", "d"} {
		refs = append(refs, s.deployment(name, 2, takingOne, tier))
	}
	s.budget("one", "tier", "x", maxUnavailable(1))
	ctx := within(t, 3*time.Minute)
	s.record(func() {
		var group sync.WaitGroup
		group.Go(func() {
			if report, err := s.cluster.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{refs[:2]}, At: restartTime}); err != nil || len(report.Done) != 2 {
				t.Errorf("report %v, %v", report, err)
			}
		})
		for _, ref := range refs[2:] {
			group.Go(func() {
				if err := s.cluster.AwaitBudget(ctx, ref); err != nil {
					t.Error(err)
					return
				}
				s.patch(ctx, ref, `{"spec":{"template":{"metadata":{"annotations":{"`+kube.RestartAnnotation+`":"`+restartStamp+`"}}}}}`)
				// What other clients write is seen a moment later.
				err := s.cluster.Await(ctx, ref.Namespace, []kube.Kind{ref.Kind}, func(ctx context.Context) (string, error) {
					if w, err := s.cluster.Workload(ctx, ref); err != nil || w.Generation > 1 {
						return "", err
					}
					return "the change", nil
				})
				if err != nil {
					t.Error(err)
				}
				if err := s.cluster.AwaitRollouts(ctx, 0, nil, ref); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}, func(rolling, _ []string) {
		if len(rolling) > 1 {
			t.Errorf("%v roll at the same time", rolling)
		}
	})
	for _, ref := range refs {
		if !s.restarted(ref) {
			t.Errorf("%s was not restarted", ref)
		}
	}
}

func TestAccRollNamesWhatARestartDoesNotReach(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	refs := []kube.Ref{
		s.deployment("paused", 1, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) }),
		s.statefulSet("by-hand", 1, func(o *appsv1.StatefulSet) { o.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType }),
		s.daemonSet("agent", func(o *appsv1.DaemonSet) { o.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType }),
		s.statefulSet("canary", 2, func(o *appsv1.StatefulSet) {
			o.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: new(int32(1))}
		}),
	}
	s.patch(s.Context(), refs[0], `{"spec":{"paused":true,"replicas":1}}`)
	web, agent := s.deployment("web", 1), s.daemonSet("other-agent")
	gone := s.ref(kube.Deployment, "gone")
	report, err := s.cluster.Roll(within(t, time.Minute), kube.Rollout{Stages: [][]kube.Ref{refs, {gone, web, agent}}, At: restartTime})
	if err != nil || !slices.Equal(sorted(report.Done), sorted([]kube.Ref{web, agent})) || len(report.Unbegun) > 0 {
		t.Errorf("report %v, %v", report, err)
	}
	for i, want := range []string{"paused", "OnDelete", "OnDelete", "partition 1"} {
		if i >= len(report.Unreachable) || report.Unreachable[i].Ref != refs[i] || !strings.Contains(report.Unreachable[i].Reason, want) {
			t.Errorf("unreachable: %v", report.Unreachable)
			break
		}
		if s.restarted(refs[i]) {
			t.Errorf("%s was restarted", refs[i])
		}
	}
	s.patch(s.Context(), refs[0], `{"spec":{"template":{"metadata":{"annotations":{"changed":"by hand"}}}}}`)
	_, fresh := connect(t) // What another client writes is seen a moment later.
	var refused *kube.RestartError
	if err := fresh.AwaitRollouts(within(t, time.Minute), 0, nil, refs[0]); !errors.As(err, &refused) {
		t.Errorf("awaiting a paused rollout: %v", err)
	}
}

func TestAccRollStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	quota := func(s *site) {
		hard := corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")}
		none := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
		if _, err := s.embedded.Client().CoreV1().ResourceQuotas(s.namespace).Create(s.Context(), none, metav1.CreateOptions{}); err != nil {
			s.Fatal(err)
		}
	}
	baseline := func(s *site) {
		s.patch(s.Context(), kube.Ref{Kind: kube.Namespace, Name: s.namespace}, `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"baseline"}}}`)
	}
	netAdmin := func(spec *corev1.PodSpec) {
		spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}}
	}
	for name, test := range map[string]struct {
		create func(*site) kube.Ref
		spoil  func(*site)
		reason string
		advice string
	}{
		"image": {
			create: func(s *site) kube.Ref { return s.deployment("web", 1, missingImage) },
			reason: `container main: ImagePullBackOff: Back-off pulling image "registry.invalid/app:does-not-exist"`,
			advice: "image",
		},
		"quota": {
			create: func(s *site) kube.Ref { return s.deployment("web", 2) },
			spoil:  quota,
			reason: "exceeded quota: none", advice: `ResourceQuota "none"`,
		},
		"quota of a StatefulSet": {
			create: func(s *site) kube.Ref { return s.statefulSet("web", 2) },
			spoil:  quota,
			reason: "exceeded quota: none", advice: `ResourceQuota "none"`,
		},
		"pod security": {
			create: func(s *site) kube.Ref {
				return s.deployment("web", 1, func(d *appsv1.Deployment) { netAdmin(&d.Spec.Template.Spec) })
			},
			spoil:  baseline,
			reason: `violates PodSecurity "baseline:latest"`, advice: "NET_ADMIN",
		},
		"pod security of a DaemonSet": {
			create: func(s *site) kube.Ref {
				return s.daemonSet("web", func(o *appsv1.DaemonSet) { netAdmin(&o.Spec.Template.Spec) })
			},
			spoil:  baseline,
			reason: `violates PodSecurity "baseline:latest"`, advice: "NET_ADMIN",
		},
		"webhook that is down": {
			create: func(s *site) kube.Ref { return s.deployment("web", 1) },
			spoil:  (*site).deadInjector,
			reason: "failed calling webhook", advice: "failurePolicy",
		},
		"policy": {
			create: func(s *site) kube.Ref { return s.statefulSet("web", 1) },
			spoil:  (*site).denyingPolicy,
			reason: "no pods today", advice: "ValidatingAdmissionPolicy",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			first, last := s.deployment("first", 1), s.deployment("last", 1)
			ref := test.create(s)
			ctx := within(t, 2*time.Minute)
			if _, err := s.cluster.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{{first}}, At: restartTime}); err != nil {
				t.Fatal(err)
			}
			if test.spoil != nil {
				test.spoil(s)
			}
			report, err := s.cluster.Roll(ctx, kube.Rollout{
				Stages: [][]kube.Ref{{first}, {ref}, {last}}, At: restartTime, Patience: time.Second,
			})
			var failure *kube.RolloutError
			if !errors.As(err, &failure) || failure.Workload != ref || !strings.Contains(failure.Reason, test.reason) {
				t.Fatalf("error: %v", err)
			}
			for _, part := range []string{ref.String(), test.reason, "done: " + first.String(), "not begun: " + last.String(), "the next apply goes on"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error lacks %q: %v", part, err)
				}
			}
			if !strings.Contains(kube.Advice(err), test.advice) {
				t.Errorf("advice on %v: %q", err, kube.Advice(err))
			}
			if !slices.Equal(report.Done, []kube.Ref{first}) || !slices.Equal(report.Unbegun, []kube.Ref{last}) || s.restarted(last) {
				t.Errorf("report %v", report)
			}
			// Who changes the template otherwise sees the same.
			if err := s.cluster.AwaitRollouts(ctx, time.Second, nil, ref); !errors.As(err, &failure) || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// deadInjector registers a webhook for the namespace's pods that nobody serves.
func (s *site) deadInjector() {
	s.Helper()
	hooks := s.embedded.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
	created, err := hooks.Create(s.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "dead-"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    "injector.example.com",
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: s.namespace, Name: "nobody"}},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.namespace}},
			Rules:                   []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{"CREATE"}, Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}},
			FailurePolicy:           new(admissionregistrationv1.Fail),
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"},
			TimeoutSeconds:          new(int32(1)),
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := hooks.Delete(context.WithoutCancel(s.Context()), created.Name, metav1.DeleteOptions{}); err != nil {
			s.Error(err)
		}
	})
	s.refused()
}

// denyingPolicy lets the API server refuse the namespace's pods.
func (s *site) denyingPolicy() {
	s.Helper()
	admission := s.embedded.Client().AdmissionregistrationV1()
	policy, err := admission.ValidatingAdmissionPolicies().Create(s.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "deny-"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: new(admissionregistrationv1.Fail),
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.namespace}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{"CREATE"}, Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: "no pods today"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	binding, err := admission.ValidatingAdmissionPolicyBindings().Create(s.Context(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "deny-"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: policy.Name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		ctx := context.WithoutCancel(s.Context())
		if err := errors.Join(
			admission.ValidatingAdmissionPolicyBindings().Delete(ctx, binding.Name, metav1.DeleteOptions{}),
			admission.ValidatingAdmissionPolicies().Delete(ctx, policy.Name, metav1.DeleteOptions{}),
		); err != nil {
			s.Error(err)
		}
	})
	s.refused()
}

// refused waits until the API server refuses pods: it learns of webhooks and
// policies a moment later.
func (s *site) refused() {
	s.Helper()
	probe := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.invalid/probe:1"}}}}
	err := s.cluster.Await(within(s.T, time.Minute), "", nil, func(ctx context.Context) (string, error) {
		if _, err := s.embedded.Client().CoreV1().Pods(s.namespace).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err == nil {
			return "pods to be refused", nil
		}
		return "", nil
	})
	if err != nil {
		s.Fatal(err)
	}
}

// A pod that fits no node may fit one that is still to come: only the end of the
// time counts as failure, and then the scheduler's words are told.
func TestAccUnschedulableCountsAtTheDeadline(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	web := s.deployment("web", 1, func(d *appsv1.Deployment) { d.Spec.Template.Spec.NodeSelector = map[string]string{"no": "such-node"} })
	report, err := s.cluster.Roll(within(t, 5*time.Second), kube.Rollout{Stages: [][]kube.Ref{{web}, {s.deployment("last", 1)}}, At: restartTime, Patience: 200 * time.Millisecond})
	var wait *kube.WaitError
	var failure *kube.RolloutError
	if !errors.As(err, &failure) || !errors.As(err, &wait) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(wait.Details, "Unschedulable") {
		t.Errorf("error: %v", err)
	}
	if len(report.Done) > 0 || len(report.Unbegun) != 1 || !strings.Contains(err.Error(), "still rolling: "+web.String()) {
		t.Errorf("report %v, %v", report, err)
	}
}

// What failed is taken up again once its cause is gone, and only that.
func TestAccRollGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first, broken, last := s.deployment("first", 1), s.deployment("broken", 1, missingImage), s.deployment("last", 1)
	r := kube.Rollout{Stages: [][]kube.Ref{{first}, {broken}, {last}}, At: restartTime, Patience: time.Second}
	ctx := within(t, 2*time.Minute)
	if _, err := s.cluster.Roll(ctx, r); err == nil {
		t.Fatal("no failure")
	}
	s.patch(s.Context(), broken, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.invalid/app:1"}]}}}}`)
	r.Patience = time.Minute
	report, err := s.cluster.Roll(ctx, r)
	if err != nil || !slices.Equal(report.Done, []kube.Ref{first, broken, last}) {
		t.Errorf("report %v, %v", report, err)
	}
	if w, err := s.cluster.Workload(ctx, first); err != nil || w.Generation != 2 {
		t.Errorf("%+v, %v", w, err)
	}
}

// A StatefulSet waits for pods of its former template to become ready, and would
// do so for ever.
func TestAccAStatefulSetGetsOverABrokenTemplate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		policy  appsv1.PodManagementPolicyType
		image   string // of the broken template
		restart bool
	}{
		"image, awaited":   {appsv1.OrderedReadyPodManagement, "does-not-exist", false},
		"image, restarted": {appsv1.OrderedReadyPodManagement, "does-not-exist", true},
		"crash":            {appsv1.OrderedReadyPodManagement, "fails", true},
		"any order":        {appsv1.ParallelPodManagement, "does-not-exist", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			db := s.statefulSet("db", 3, func(o *appsv1.StatefulSet) { o.Spec.PodManagementPolicy = test.policy })
			s.budget("one", "app", "db", maxUnavailable(1))
			ctx := within(t, 2*time.Minute)
			image := func(tag string) {
				before, err := s.cluster.Get(ctx, db)
				if err != nil {
					t.Fatal(err)
				}
				s.patch(ctx, db, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.invalid/app:`+tag+`"}]}}}}`)
				// What other clients write is seen a moment later.
				err = s.cluster.Await(ctx, db.Namespace, []kube.Kind{db.Kind}, func(ctx context.Context) (string, error) {
					if w, err := s.cluster.Workload(ctx, db); err != nil || w.Generation > before.GetGeneration() {
						return "", err
					}
					return "the change", nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			image(test.image)
			var failure *kube.RolloutError
			if err := s.cluster.AwaitRollouts(ctx, time.Second, nil, db); !errors.As(err, &failure) {
				t.Fatalf("error: %v", err)
			}
			image("2")
			var told []any
			log := func(_ string, fields map[string]any) {
				if pod, about := fields["pod"]; about {
					told = append(told, pod)
				}
			}
			if test.restart {
				if _, err := s.cluster.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{{db}}, At: restartTime, Log: log}); err != nil {
					t.Fatal(err)
				}
			} else if err := s.cluster.AwaitRollouts(ctx, 0, log, db); err != nil {
				t.Fatal(err)
			}
			// In any order the controller may come by itself first.
			if broken := s.ref(kube.Pod, "db-2").String(); len(told) > 1 || len(told) == 1 && told[0] != broken || len(told) == 0 && test.policy == appsv1.OrderedReadyPodManagement {
				t.Errorf("deleted %v", told)
			}
			pods, err := s.cluster.PodsOf(ctx, db)
			if err != nil || len(pods) != 3 {
				t.Errorf("%d pods, %v", len(pods), err)
			}
		})
	}
}

// A budget that its own broken pods use up does not keep a workload from being
// repaired.
func TestAccABudgetDoesNotKeepBrokenPodsBroken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	web := s.deployment("web", 3, takingOne)
	s.budget("one", "app", "web", maxUnavailable(1))
	ctx := within(t, 2*time.Minute)
	s.patch(ctx, web, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.invalid/app:does-not-exist"}]}}}}`)
	down := func(ctx context.Context) (string, error) {
		budgets, err := s.embedded.Client().PolicyV1().PodDisruptionBudgets(s.namespace).Get(ctx, "one", metav1.GetOptions{})
		if err != nil || budgets.Status.CurrentHealthy == 2 {
			return "", err
		}
		return "the budget to be used up", nil
	}
	if err := s.cluster.Await(ctx, "", nil, down); err != nil {
		t.Fatal(err)
	}
	_, fresh := connect(t) // What another client writes is seen a moment later.
	_, err := fresh.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{{web}}, At: restartTime, Patience: time.Second, Log: func(message string, fields map[string]any) {
		if message == "waiting to restart" {
			t.Errorf("waits for %v", fields["for"])
		}
	}})
	var failure *kube.RolloutError
	if !errors.As(err, &failure) || !strings.Contains(failure.Reason, "ImagePullBackOff") || !s.restarted(web) {
		t.Errorf("error: %v", err)
	}
}

// Rollouts of many workloads cost few reads: nothing is asked for one by one.
func TestAccRollReadsLittle(t *testing.T) {
	t.Parallel()
	const count = 50
	embedded := shared.Cluster(t)
	agent := "kube-test-" + t.Name()
	c, err := kube.Connect(kube.Settings{ConfigPaths: []string{embedded.Kubeconfig()}}, agent)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	refs := make([]kube.Ref, count)
	for i := range refs {
		refs[i] = s.ref(kube.Deployment, fmt.Sprintf("web-%02d", i))
		d := testcluster.NewDeployment(s.namespace, refs[i].Name, 1)
		if _, err := embedded.Client().AppsV1().Deployments(s.namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ctx := within(t, 5*time.Minute)
	if err := s.cluster.AwaitReady(ctx, refs...); err != nil {
		t.Fatal(err)
	}
	since := time.Now().Truncate(time.Microsecond)
	if report, err := c.Roll(ctx, kube.Rollout{Stages: [][]kube.Ref{refs[:count/2], refs[count/2:]}, At: restartTime}); err != nil || len(report.Done) != count {
		t.Fatalf("report %v, %v", report, err)
	}
	// As if each were a resource of its own.
	for _, ref := range refs {
		if err := c.AwaitBudget(ctx, ref); err != nil {
			t.Fatal(err)
		}
		if err := c.AwaitRollouts(ctx, 0, nil, ref); err != nil {
			t.Fatal(err)
		}
		if pods, err := c.PodsOf(ctx, ref); err != nil || len(pods) == 0 {
			t.Fatalf("%d pods, %v", len(pods), err)
		}
		if _, err := c.Namespace(ctx, ref.Namespace); err != nil {
			t.Fatal(err)
		}
	}
	events, err := embedded.AuditEvents(since)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, event := range events {
		if event.UserAgent == agent {
			counts[event.Verb+" "+event.Resource]++
		}
	}
	for request, n := range counts {
		verb, _, _ := strings.Cut(request, " ")
		if verb == "get" || verb == "list" && n > 5 || verb == "patch" && n != count {
			t.Errorf("%d times %s", n, request)
		}
	}
	if counts["patch deployments"] != count {
		t.Errorf("requests: %v", counts)
	}
	t.Logf("requests: %v", counts)
}

// A server that fails for a while delays a rollout, and no more.
func TestAccRollOutlastsFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []testcluster.Fault{testcluster.FaultServerError, testcluster.FaultReset, testcluster.FaultHang, testcluster.FaultTooManyRequests} {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			proxy := testcluster.NewFaultProxy(t, s.embedded.Kubeconfig())
			c, err := kube.Connect(kube.Settings{ConfigPaths: []string{proxy.Kubeconfig()}, RequestTimeout: 3 * time.Second}, "kube-test")
			if err != nil {
				t.Fatal(err)
			}
			first, second := s.deployment("first", 1), s.deployment("second", 1)
			ctx := within(t, time.Minute)
			var group sync.WaitGroup
			fail := func() {
				proxy.Set(fault, testcluster.Methods(http.MethodPatch))
				group.Go(func() {
					if err := proxy.WaitFaulted(ctx); err != nil {
						t.Error(err)
					}
					proxy.Clear()
				})
			}
			fail() // Already the first restart meets it.
			report, err := c.Roll(ctx, kube.Rollout{
				Stages: [][]kube.Ref{{first}, {second}}, At: restartTime, Patience: 2 * time.Second,
				Log: func(message string, fields map[string]any) {
					if message == "rolled out" && fields["workload"] == first.String() {
						group.Wait()
						fail()
					}
				},
			})
			if err != nil || !slices.Equal(report.Done, []kube.Ref{first, second}) {
				t.Errorf("report %v, %v", report, err)
			}
			group.Wait()
		})
	}
}

// More pods than a page holds are visited once each.
func TestAccEachPod(t *testing.T) {
	t.Parallel()
	const count = 520
	s := newSite(t)
	pods := s.embedded.Client().CoreV1().Pods(s.namespace)
	var group errgroup.Group
	group.SetLimit(10)
	for i := range count {
		group.Go(func() error {
			_, err := pods.Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p-%d", i), Labels: map[string]string{"odd": fmt.Sprint(i % 2)}},
				Spec:       corev1.PodSpec{SchedulerName: "nobody", Containers: []corev1.Container{{Name: "main", Image: "registry.invalid/app:1"}}},
			}, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for selector, want := range map[string]int{"": count, "odd=1": count / 2, "odd=2": 0} {
		visits := map[string]int{}
		err := s.cluster.EachPod(t.Context(), s.namespace, selector, func(p *corev1.Pod) error {
			visits[p.Name]++
			return nil
		})
		if err != nil || len(visits) != want {
			t.Errorf("%d pods of %q, %v", len(visits), selector, err)
		}
		for name, n := range visits {
			if n != 1 {
				t.Errorf("%s was visited %d times", name, n)
			}
		}
	}
}
