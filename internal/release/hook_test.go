package release

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

func hookManifest(kind, name, event, more string) string {
	body := "data: {}"
	api := "v1"
	switch kind {
	case "Job":
		api = "batch/v1"
		body = `spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: main, image: "registry.invalid/x:1"}]}}}`
	case "Pod":
		body = `spec: {restartPolicy: Never, containers: [{name: main, image: "registry.invalid/x:1"}]}`
	}
	return fmt.Sprintf("---\n{apiVersion: %s, kind: %s, metadata: {name: %s, annotations: {helm.sh/hook: %q%s}}, %s}\n",
		api, kind, name, event, more, strings.TrimPrefix(body, ""))
}

// steps records what a release logs of its order.
func steps(releases *Releases) *[]string {
	var seen []string
	releases.Log = func(message string, fields map[string]any) {
		switch message {
		case "running hook":
			object := fmt.Sprint(fields["object"])
			seen = append(seen, fmt.Sprint(fields["event"])+" "+object[strings.LastIndex(object, "/")+1:])
		case "applying":
			seen = append(seen, fmt.Sprint(fields["kind"]))
		}
	}
	return &seen
}

// endPods has the pods of a namespace end well as soon as they run: those of
// Jobs only do so by themselves.
func endPods(t *testing.T, namespace string) {
	t.Helper()
	pods := shared.Cluster(t).Client().CoreV1().Pods(namespace)
	changes, err := pods.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(changes.Stop)
	go func() {
		for change := range changes.ResultChan() {
			pod, ok := change.Object.(*corev1.Pod)
			if !ok || pod.Status.Phase != corev1.PodRunning || len(pod.OwnerReferences) > 0 {
				continue
			}
			pod.Status.Phase = corev1.PodSucceeded
			if _, err := pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && t.Context().Err() == nil {
				t.Errorf("end a pod: %v", err)
			}
		}
	}()
}

func TestAccHooks(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	seen := steps(releases)
	namespace := shared.Cluster(t).Namespace(t)
	text := `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}` + "\n" +
		hookManifest("Job", "late", "pre-install,pre-upgrade", `, helm.sh/hook-weight: "5"`) +
		hookManifest("Job", "early", "pre-install, post-delete", `, helm.sh/hook-weight: "-5", helm.sh/hook-delete-policy: hook-succeeded`) +
		hookManifest("ConfigMap", "kept", "pre-install", `, helm.sh/hook-delete-policy: before-hook-creation`) +
		hookManifest("Pod", "after", "post-install,pre-delete", "") +
		hookManifest("Job", "tested", "test", "") + hookManifest("Job", "back", "post-rollback", "") +
		hookManifest("Job", "new", "post-upgrade", "") + hookManifest("Job", "new", "post-delete", "")
	transformed := 0
	desired := Desired{Objects: parse(t, text), Wait: true, TransformHook: count(&transformed)}
	if got := planned(t, releases, namespace, "app", desired); !slices.Equal(got, []string{"+ ConfigMap ns/a"}) {
		t.Errorf("plan %q", got)
	}
	transformed = 0
	endPods(t, namespace)
	deploy(t, releases, namespace, "app", desired)
	if want := []string{"pre-install early", "pre-install kept", "pre-install late", "ConfigMap", "post-install after"}; !slices.Equal(*seen, want) {
		t.Errorf("install: %q", *seen)
	}
	if transformed != 6 {
		t.Errorf("%d hooks were transformed", transformed)
	}
	left := live(t, releases, kube.Job, namespace, "late")
	if left == nil || live(t, releases, kube.Job, namespace, "early") != nil || live(t, releases, kube.Job, namespace, "tested") != nil || live(t, releases, kube.Job, namespace, "back") != nil {
		t.Error("not the hooks that should be left are there")
	}
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("second plan %q", got)
	}
	*seen = nil
	deploy(t, releases, namespace, "app", desired)
	if want := []string{"pre-upgrade late", "ConfigMap", "post-upgrade new"}; !slices.Equal(*seen, want) {
		t.Errorf("upgrade: %q", *seen)
	}
	if again := live(t, releases, kube.Job, namespace, "late"); again == nil || again.GetUID() == left.GetUID() {
		t.Error("a hook was not made anew")
	}
	*seen = nil
	if _, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"pre-delete after", "post-delete early", "post-delete new"}; !slices.Equal(*seen, want) {
		t.Errorf("uninstall: %q", *seen)
	}
}

func TestAccFailingHooks(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	seen := steps(releases)
	namespace := shared.Cluster(t).Namespace(t)
	good := hookManifest("Job", "good", "pre-install", `, helm.sh/hook-weight: "-1", helm.sh/hook-delete-policy: hook-succeeded`)
	bad := hookManifest("Job", "bad", "pre-install", `, helm.sh/hook-delete-policy: "before-hook-creation,hook-failed"`)
	stuck := strings.Replace(bad, "registry.invalid/x:1", "registry.invalid/x:does-not-exist", 1)
	text := "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n" + good

	desired := Desired{Objects: parse(t, text+stuck), HookTimeout: 3 * time.Second}
	err := open(t, releases, namespace, "app").Deploy(patient(t), desired)
	failed, ok := errors.AsType[*HookError](err)
	if !ok || failed.Event != "pre-install" || failed.Ref.Name != "bad" || !strings.Contains(err.Error(), "did not end within 3s") || !strings.Contains(err.Error(), "ImagePullBackOff") {
		t.Errorf("a hook that hangs: %v", err)
	}
	expired := strings.Replace(stuck, "backoffLimit: 0", "backoffLimit: 0, activeDeadlineSeconds: 2", 1)
	desired = Desired{Objects: parse(t, text+expired)}
	err = open(t, releases, namespace, "app").Deploy(patient(t), desired)
	if _, ok := errors.AsType[*HookError](err); !ok || !strings.Contains(err.Error(), "it failed: DeadlineExceeded") || !strings.Contains(err.Error(), "ImagePullBackOff") {
		t.Errorf("a hook that fails: %v", err)
	}
	if slices.Contains(*seen, "ConfigMap") || live(t, releases, kube.Job, namespace, "bad") != nil || live(t, releases, kube.Job, namespace, "good") != nil {
		t.Errorf("after the failure: %q", *seen)
	}
	// What hooks need to run at deletion may not be there.
	deleting := Desired{Objects: parse(t, text+stuck+strings.Replace(stuck, "pre-install", "pre-delete", 1)), HookTimeout: 3 * time.Second}
	if err := open(t, releases, namespace, "halfway").Deploy(patient(t), deleting); err == nil {
		t.Error("deployed with a hook that fails")
	}
	if _, err := open(t, releases, namespace, "halfway").Uninstall(patient(t), UninstallOptions{}); err != nil {
		t.Errorf("uninstall of half a release: %v", err)
	}
	deleting.Objects = parse(t, strings.Replace(stuck, "pre-install", "pre-delete", 1)+strings.Replace(stuck, "pre-install", "post-delete", 1))
	deploy(t, releases, namespace, "whole", deleting)
	_, err = open(t, releases, namespace, "whole").Uninstall(patient(t), UninstallOptions{HookTimeout: time.Second})
	if failed, ok := errors.AsType[*HookError](err); !ok || failed.Event != "pre-delete" {
		t.Errorf("a hook that hangs at deletion: %v", err)
	}
	if _, err := open(t, releases, namespace, "whole").Uninstall(patient(t), UninstallOptions{SkipHooks: true}); err != nil {
		t.Errorf("uninstall without hooks: %v", err)
	}
	// An installation that failed is done again as one.
	*seen = nil
	desired = Desired{Objects: parse(t, text+bad)}
	deploy(t, releases, namespace, "app", desired)
	if want := []string{"pre-install good", "pre-install bad", "ConfigMap"}; !slices.Equal(*seen, want) {
		t.Errorf("repair: %q", *seen)
	}
	// What is no hook is not deleted for one.
	desired = Desired{Objects: parse(t, hookManifest("ConfigMap", "a", "post-upgrade", "")+"---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}")}
	patch(t, releases, kube.ConfigMap, namespace, "a", "somebody", `{"metadata":{"annotations":{"aksmesh.io/release":"x/y"}}}`)
	if err := open(t, releases, namespace, "app").Deploy(patient(t), desired); err == nil || !strings.Contains(err.Error(), "which is no hook") {
		t.Errorf("got %v", err)
	}
}

func TestAccStatefulSetIsMadeAnew(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	text := func(service, app, size string) string {
		return fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: alpha}
spec:
  serviceName: %s
  replicas: 2
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s, also: alpha}}
    spec: {containers: [{name: main, image: "registry.invalid/alpha:1", volumeMounts: [{name: data, mountPath: /data}]}]}
  volumeClaimTemplates:
  - {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: %s}}}}
`, service, app, size)
	}
	desired := Desired{Objects: parse(t, text("one", "alpha", "1Gi")), Wait: true}
	deploy(t, releases, namespace, "app", desired)
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("second plan %q", got)
	}
	uids := func() map[string]string {
		found := map[string]string{}
		for _, kind := range []kube.Kind{kube.StatefulSet, kube.Pod, persistentVolumeClaim} {
			objects, err := releasesBy(t, "").Cluster.List(t.Context(), kind, namespace)
			if err != nil {
				t.Fatal(err)
			}
			for _, object := range objects {
				found[kind.Name+" "+object.GetName()] = string(object.GetUID())
			}
		}
		return found
	}
	before := uids()
	if len(before) != 5 {
		t.Fatalf("objects %v", before)
	}
	desired.Objects = parse(t, text("two", "alpha", "2Gi"))
	want := []string{`-/+ StatefulSet ns/alpha: spec.serviceName: "one" -> "two"; spec.volumeClaimTemplates[0].spec.resources.requests.storage: "1Gi" -> "2Gi" (pods and volume claims stay)`}
	if got := planned(t, releases, namespace, "app", desired); !slices.Equal(got, want) {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "app", desired)
	after := uids()
	for name, uid := range before {
		if same := after[name] == uid; same != !strings.HasPrefix(name, "StatefulSet") {
			t.Errorf("%s: %s became %s", name, uid, after[name])
		}
	}
	pods, err := releases.Cluster.PodsOf(t.Context(), kube.Ref{Kind: kube.StatefulSet, Namespace: namespace, Name: "alpha"})
	if err != nil || len(pods) != 2 {
		t.Errorf("%d pods were taken over, %v", len(pods), err)
	}
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("plan after it %q", got)
	}

	// Pods that would be orphans, and objects that would be refused, are not given up.
	for change, reason := range map[string]string{
		text("two", "beta", "2Gi"): "does not match the labels of Pod",
		strings.Replace(text("three", "alpha", "2Gi"), "main,", "Main_,", 1):         "Invalid",
		strings.Replace(text("three", "alpha", "2Gi"), "also: alpha", "a/b/c: d", 1): "Invalid",
	} {
		for _, act := range []func(*Release, Desired) error{
			func(r *Release, d Desired) error { return r.Deploy(patient(t), d) },
			func(r *Release, d Desired) error { _, err := r.Plan(patient(t), d); return err },
		} {
			if err := act(open(t, releases, namespace, "app"), Desired{Objects: parse(t, change)}); err == nil || !strings.Contains(err.Error(), reason) && !strings.Contains(err.Error(), strings.ToLower(reason)) {
				t.Errorf("got %v, want %s", err, reason)
			}
		}
	}
	if now := uids(); now["StatefulSet alpha"] != after["StatefulSet alpha"] {
		t.Error("the StatefulSet was deleted")
	}
	kept, err := open(t, releases, namespace, "app").Uninstall(patient(t), UninstallOptions{})
	if err != nil || len(kept) != 2 || kept[0] != "PersistentVolumeClaim "+namespace+"/data-alpha-0: it holds the data of StatefulSet "+namespace+"/alpha" {
		t.Errorf("kept %q, %v", kept, err)
	}
	if left := uids(); len(left) != 2 || left["PersistentVolumeClaim data-alpha-1"] != before["PersistentVolumeClaim data-alpha-1"] {
		t.Errorf("left %v", left)
	}
}

func TestAccImmutableFields(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	job := func(image, more string) string {
		return `{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {` + more + ` template: {spec: {restartPolicy: Never, containers: [{name: main, image: "registry.invalid/x:` + image + `"}]}}}}`
	}
	desired := Desired{Objects: parse(t, job("1", "")+"\n---\n"+deployment("web", "1", "")), Wait: true, WaitForJobs: true}
	deploy(t, releases, namespace, "app", desired)
	first := live(t, releases, kube.Job, namespace, "once")
	desired.Objects = parse(t, job("2", "ttlSecondsAfterFinished: 1,")+"\n---\n"+deployment("web", "1", ""))
	got := planned(t, releases, namespace, "app", desired)
	if len(got) != 1 || !strings.HasPrefix(got[0], "-/+ Job ns/once: spec.template.spec.containers.[name=main].image: ") && !strings.Contains(got[0], "[name=main].image") {
		t.Errorf("plan %q", got)
	}
	deploy(t, releases, namespace, "app", Desired{Objects: desired.Objects})
	if second := live(t, releases, kube.Job, namespace, "once"); second != nil && second.GetUID() == first.GetUID() {
		t.Error("the Job was not made anew")
	}
	// It is no drift that its time is over.
	ref := kube.Ref{Kind: kube.Job, Namespace: namespace, Name: "once"}
	if err := releases.Cluster.AwaitGone(patient(t), ref, ""); err != nil {
		t.Fatal(err)
	}
	releases = releasesBy(t, "")
	if drift, err := open(t, releases, namespace, "app").Drift(t.Context()); err != nil || len(drift) > 0 {
		t.Errorf("drift %q, %v", drift, err)
	}
	if got := planned(t, releases, namespace, "app", desired); len(got) > 0 {
		t.Errorf("plan %q", got)
	}

	// Nor does it run again for it.
	deploy(t, releases, namespace, "app", desired)
	if live(t, releases, kube.Job, namespace, "once") != nil {
		t.Error("the Job runs again")
	}

	desired.Objects = parse(t, strings.ReplaceAll(deployment("web", "1", ""), "app: web", "app: other"))
	for _, act := range []func(*Release) error{
		func(r *Release) error { return r.Deploy(patient(t), desired) },
		func(r *Release) error { _, err := r.Plan(patient(t), desired); return err },
	} {
		err := act(open(t, releases, namespace, "app"))
		if immutable, ok := errors.AsType[*ImmutableError](err); !ok || !slices.Equal(immutable.Fields, []string{"spec.selector"}) || !strings.Contains(err.Error(), "Deployment "+namespace+"/web") {
			t.Errorf("got %v", err)
		}
	}
}

func TestAccVanishedKind(t *testing.T) {
	t.Parallel()
	releases := releasesBy(t, "")
	namespace := shared.Cluster(t).Namespace(t)
	group := namespace + ".example.com"
	crd := fmt.Sprintf(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.%[1]s}
spec:
  group: %[1]s
  names: {plural: gadgets, singular: gadget, kind: Gadget, listKind: GadgetList}
  scope: Cluster
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`, group)
	gadget := "{apiVersion: " + group + "/v1, kind: Gadget, metadata: {name: one}}\n"
	// The kind comes from elsewhere, and is not there when this is planned.
	desired := Desired{Objects: parse(t, gadget)}
	changes, err := open(t, releases, namespace, "user").Plan(t.Context(), desired)
	if err != nil || len(changes) != 1 || changes[0].String() != "+ Gadget one" || !changes[0].Uncertain {
		t.Errorf("plan %v, %v", changes, err)
	}
	if err := open(t, releases, namespace, "user").Deploy(t.Context(), desired); !meta.IsNoMatchError(err) && (err == nil || !strings.Contains(err.Error(), "no matches")) {
		t.Errorf("got %v", err)
	}
	deploy(t, releases, namespace, "kinds", Desired{Objects: parse(t, crd)})
	deploy(t, releases, namespace, "user", desired)
	if _, err := open(t, releases, namespace, "kinds").Uninstall(patient(t), UninstallOptions{DeleteCRDs: true}); err != nil {
		t.Fatal(err)
	}
	release := open(t, releases, namespace, "user")
	drift, err := release.Drift(t.Context())
	if err != nil || len(drift) != 1 || !strings.Contains(drift[0], "Gadget one is missing: the cluster does not serve") {
		t.Errorf("drift %q, %v", drift, err)
	}
	if kept, err := release.Uninstall(patient(t), UninstallOptions{}); err != nil || len(kept) > 0 {
		t.Errorf("uninstall: %q, %v", kept, err)
	}
}
