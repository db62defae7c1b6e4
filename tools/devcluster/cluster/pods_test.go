package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// template returns a pod template with the label app and one container.
func template(app, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: app, Image: image}}},
	}
}

// deploy creates a Deployment called as the label app of its template.
func deploy(t *testing.T, namespace string, replicas int32, pods corev1.PodTemplateSpec) *appsv1.Deployment {
	t.Helper()
	created, err := shared.client.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: pods.Labels["app"]},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: pods.Labels},
			Template: pods,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// available waits until all replicas of the Deployment are.
func available(t *testing.T, deployment *appsv1.Deployment) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		current, err := shared.client.AppsV1().Deployments(deployment.Namespace).Get(ctx, deployment.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if current.Status.AvailableReplicas != *deployment.Spec.Replicas {
			return fmt.Errorf("%d of %d replicas are available", current.Status.AvailableReplicas, *deployment.Spec.Replicas)
		}
		return nil
	})
}

// onlyPod waits until accept does not complain about the one pod of the app.
func onlyPod(t *testing.T, namespace, app string, accept func(*corev1.Pod) error) *corev1.Pod {
	t.Helper()
	var found *corev1.Pod
	eventually(t, func(ctx context.Context) error {
		pods, err := shared.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("%d pods", len(pods.Items))
		}
		found = &pods.Items[0]
		return accept(found)
	})
	return found
}

// ready returns the status of the condition Ready of pod.
func ready(pod *corev1.Pod) corev1.ConditionStatus {
	for _, candidate := range pod.Status.Conditions {
		if candidate.Type == corev1.PodReady {
			return candidate.Status
		}
	}
	return corev1.ConditionUnknown
}

// phase accepts pods in the wanted phase.
func phase(want corev1.PodPhase) func(*corev1.Pod) error {
	return func(pod *corev1.Pod) error {
		if pod.Status.Phase != want {
			return fmt.Errorf("phase is %s", pod.Status.Phase)
		}
		return nil
	}
}

func TestManyPodsBecomeReadyAndGo(t *testing.T) {
	t.Parallel()
	const replicas = 200
	name := namespace(t, nil)
	started := time.Now()
	deployment := deploy(t, name, replicas, template("many", "example.com/app:1"))
	available(t, deployment)
	t.Logf("%d pods after %s", replicas, time.Since(started))

	pods, err := shared.client.CoreV1().Pods(name).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ips := map[string]string{}
	for _, pod := range pods.Items {
		if other := ips[pod.Status.PodIP]; other != "" || pod.Status.PodIP == "" {
			t.Errorf("pod %s has the IP %q of %q", pod.Name, pod.Status.PodIP, other)
		}
		ips[pod.Status.PodIP] = pod.Name
	}

	if err := shared.client.CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := shared.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("namespace still exists: %w", err)
	})
}

func TestNativeSidecar(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	pods := template("app", "example.com/app:1")
	always := corev1.ContainerRestartPolicyAlways
	pods.Spec.InitContainers = []corev1.Container{
		{Name: "setup", Image: "example.com/setup:1"},
		{Name: "proxy", Image: "example.com/proxy:1", RestartPolicy: &always},
	}
	available(t, deploy(t, name, 1, pods))
	pod := onlyPod(t, name, "app", phase(corev1.PodRunning))
	if ready(pod) != corev1.ConditionTrue {
		t.Errorf("pod is not ready: %+v", pod.Status.Conditions)
	}
	statuses := pod.Status.InitContainerStatuses
	if len(statuses) != 2 {
		t.Fatalf("%d init container statuses", len(statuses))
	}
	if setup := statuses[0]; setup.State.Terminated == nil || setup.State.Terminated.ExitCode != 0 || !setup.Ready {
		t.Errorf("init container: %+v", setup)
	}
	if proxy := statuses[1]; proxy.State.Running == nil || !proxy.Ready || proxy.Started == nil || !*proxy.Started {
		t.Errorf("native sidecar: %+v", proxy)
	}
	if app := pod.Status.ContainerStatuses[0]; app.State.Running == nil || !app.Ready || app.ImageID == "" || app.ContainerID == "" {
		t.Errorf("container: %+v", app)
	}
}

func TestJobCompletes(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	pods := template("job", "example.com/app:1")
	always := corev1.ContainerRestartPolicyAlways
	pods.Spec.InitContainers = []corev1.Container{{Name: "proxy", Image: "example.com/proxy:1", RestartPolicy: &always}}
	pods.Spec.RestartPolicy = corev1.RestartPolicyNever
	createJob(t, name, pods)
	eventually(t, func(ctx context.Context) error {
		job, err := shared.client.BatchV1().Jobs(name).Get(ctx, "job", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if job.Status.Succeeded != 1 || job.Status.CompletionTime == nil {
			return fmt.Errorf("status is %+v", job.Status)
		}
		return nil
	})
	pod := onlyPod(t, name, "job", phase(corev1.PodSucceeded))
	for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
		if status.State.Terminated == nil {
			t.Errorf("container %s has not ended: %+v", status.Name, status.State)
		}
	}
}

// createJob creates a Job called job of pods.
func createJob(t *testing.T, namespace string, pods corev1.PodTemplateSpec) {
	t.Helper()
	_, err := shared.client.BatchV1().Jobs(namespace).Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "job"},
		Spec:       batchv1.JobSpec{BackoffLimit: new(int32), Template: pods},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// A sidecar that is an ordinary container keeps a Job from completing.
func TestJobWaitsForItsSidecar(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	pods := template("job", "example.com/app:1")
	pods.Spec.Containers = append(pods.Spec.Containers, corev1.Container{Name: "linkerd-proxy", Image: "example.com/proxy:1"})
	pods.Spec.RestartPolicy = corev1.RestartPolicyNever
	createJob(t, name, pods)
	pod := onlyPod(t, name, "job", func(pod *corev1.Pod) error {
		if statuses := pod.Status.ContainerStatuses; len(statuses) != 2 || statuses[0].State.Terminated == nil {
			return fmt.Errorf("the application has not ended: %+v", statuses)
		}
		return nil
	})
	if pod.Status.Phase != corev1.PodRunning || pod.Status.ContainerStatuses[1].State.Running == nil {
		t.Errorf("status: %+v", pod.Status)
	}
}

func TestFailingContainer(t *testing.T) {
	t.Parallel()
	failing := func(policy corev1.RestartPolicy) corev1.PodTemplateSpec {
		pods := template("job", "example.com/app:fails")
		always := corev1.ContainerRestartPolicyAlways
		pods.Spec.InitContainers = []corev1.Container{{Name: "proxy", Image: "example.com/proxy:1", RestartPolicy: &always}}
		pods.Spec.RestartPolicy = policy
		return pods
	}
	t.Run("of a Job", func(t *testing.T) {
		t.Parallel()
		name := namespace(t, nil)
		createJob(t, name, failing(corev1.RestartPolicyNever))
		eventually(t, func(ctx context.Context) error {
			job, err := shared.client.BatchV1().Jobs(name).Get(ctx, "job", metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range job.Status.Conditions {
				if c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue {
					return nil
				}
			}
			return fmt.Errorf("status is %+v", job.Status)
		})
		pod := onlyPod(t, name, "job", phase(corev1.PodFailed))
		if state := pod.Status.ContainerStatuses[0].State; state.Terminated == nil || state.Terminated.ExitCode != 1 {
			t.Errorf("container: %+v", state)
		}
		if state := pod.Status.InitContainerStatuses[0].State; state.Terminated == nil {
			t.Errorf("native sidecar: %+v", state)
		}
	})
	t.Run("that is restarted", func(t *testing.T) {
		t.Parallel()
		name := namespace(t, nil)
		deploy(t, name, 1, failing(corev1.RestartPolicyAlways))
		pod := onlyPod(t, name, "job", phase(corev1.PodRunning))
		status := pod.Status.ContainerStatuses[0]
		if status.State.Waiting == nil || status.State.Waiting.Reason != "CrashLoopBackOff" || status.RestartCount != 1 ||
			status.LastTerminationState.Terminated == nil || status.LastTerminationState.Terminated.ExitCode != 1 {
			t.Errorf("container: %+v", status)
		}
		if ready(pod) != corev1.ConditionFalse || pod.Status.InitContainerStatuses[0].State.Running == nil {
			t.Errorf("status: %+v", pod.Status)
		}
	})
}

func TestDisruptionBudget(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	deployment := deploy(t, name, 2, template("app", "example.com/app:1"))
	available(t, deployment)
	one := intstr.FromInt32(1)
	_, err := shared.client.PolicyV1().PodDisruptionBudgets(name).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: deployment.Spec.Selector},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	allowed := func(want int32) {
		t.Helper()
		eventually(t, func(ctx context.Context) error {
			budget, err := shared.client.PolicyV1().PodDisruptionBudgets(name).Get(ctx, "app", metav1.GetOptions{})
			if err == nil && (budget.Status.ObservedGeneration != budget.Generation || budget.Status.DisruptionsAllowed != want) {
				err = fmt.Errorf("status is %+v", budget.Status)
			}
			return err
		})
	}
	allowed(1)
	if _, err := shared.client.AppsV1().Deployments(name).Patch(t.Context(), "app", types.MergePatchType,
		[]byte(`{"spec": {"replicas": 1}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	allowed(0)
	pod := onlyPod(t, name, "app", phase(corev1.PodRunning))
	err = shared.client.PolicyV1().Evictions(name).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: pod.Name}})
	if !apierrors.IsTooManyRequests(err) {
		t.Errorf("eviction: %v", err)
	}
}

// Pods that are refused say why on what makes them.
func TestRefusedPods(t *testing.T) {
	t.Parallel()
	for test, c := range map[string]struct {
		labels  map[string]string
		quota   corev1.ResourceList
		want    string
		prepare func(*corev1.PodSpec)
	}{
		"Pod Security": {
			labels: map[string]string{"pod-security.kubernetes.io/enforce": "baseline"},
			want:   `violates PodSecurity "baseline:latest": non-default capabilities (container "app" must not include "NET_ADMIN"`,
			prepare: func(s *corev1.PodSpec) {
				s.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}}
			},
		},
		"ResourceQuota": {
			quota:   corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")},
			want:    "exceeded quota: all",
			prepare: func(*corev1.PodSpec) {},
		},
	} {
		t.Run(test, func(t *testing.T) {
			t.Parallel()
			name := namespace(t, c.labels)
			if c.quota != nil {
				_, err := shared.client.CoreV1().ResourceQuotas(name).Create(t.Context(), &corev1.ResourceQuota{
					ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: corev1.ResourceQuotaSpec{Hard: c.quota},
				}, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
				eventually(t, func(ctx context.Context) error {
					quota, err := shared.client.CoreV1().ResourceQuotas(name).Get(ctx, "all", metav1.GetOptions{})
					if err == nil && len(quota.Status.Hard) == 0 {
						err = errors.New("the quota is not in force")
					}
					return err
				})
			}
			pods := template("app", "example.com/app:1")
			c.prepare(&pods.Spec)
			deploy(t, name, 1, pods)
			eventually(t, func(ctx context.Context) error {
				deployment, err := shared.client.AppsV1().Deployments(name).Get(ctx, "app", metav1.GetOptions{})
				if err != nil {
					return err
				}
				for _, condition := range deployment.Status.Conditions {
					if condition.Type == appsv1.DeploymentReplicaFailure && strings.Contains(condition.Message, c.want) {
						return nil
					}
				}
				return fmt.Errorf("conditions are %+v", deployment.Status.Conditions)
			})
		})
	}
}

func TestMissingImage(t *testing.T) {
	t.Parallel()
	for kind, build := range map[string]func(*corev1.PodSpec){
		"container": func(spec *corev1.PodSpec) { spec.Containers[0].Image = "example.com/app:does-not-exist" },
		"init container": func(spec *corev1.PodSpec) {
			spec.InitContainers = []corev1.Container{{Name: "init", Image: "example.com/init:does-not-exist"}}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			name := namespace(t, nil)
			pods := template("app", "example.com/app:1")
			build(&pods.Spec)
			deploy(t, name, 1, pods)
			pod := onlyPod(t, name, "app", func(pod *corev1.Pod) error {
				for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
					if status.State.Waiting != nil && status.State.Waiting.Reason == "ImagePullBackOff" {
						return nil
					}
				}
				return fmt.Errorf("no container waits for its image: %+v", pod.Status)
			})
			if pod.Status.Phase != corev1.PodPending || ready(pod) != corev1.ConditionFalse {
				t.Errorf("status: %+v", pod.Status)
			}
		})
	}
}

func TestVolumeClaims(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	replicas := int32(3)
	pods := template("db", "example.com/db:1")
	_, err := shared.client.AppsV1().StatefulSets(name).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: pods.Labels},
			Template: pods,
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	eventually(t, func(ctx context.Context) error {
		set, err := shared.client.AppsV1().StatefulSets(name).Get(ctx, "db", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if set.Status.ReadyReplicas != replicas {
			return fmt.Errorf("%d of %d replicas are ready", set.Status.ReadyReplicas, replicas)
		}
		return nil
	})
	t.Logf("%d pods with volumes after %s", replicas, time.Since(started))

	claim, err := shared.client.CoreV1().PersistentVolumeClaims(name).Get(t.Context(), "data-db-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.client.AppsV1().StatefulSets(name).Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		left, err := shared.client.CoreV1().Pods(name).List(ctx, metav1.ListOptions{})
		if err == nil && len(left.Items) > 0 {
			err = fmt.Errorf("%d pods are left", len(left.Items))
		}
		return err
	})
	// The claims survive their StatefulSet, and so do the volumes.
	kept, err := shared.client.CoreV1().PersistentVolumeClaims(name).Get(t.Context(), claim.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if kept.UID != claim.UID || kept.DeletionTimestamp != nil || kept.Status.Phase != corev1.ClaimBound {
		t.Errorf("claim without its StatefulSet: %+v", kept)
	}

	if err := shared.client.CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := shared.client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("volume still exists: %w", err)
	})
}

func TestLoadBalancer(t *testing.T) {
	t.Parallel()
	name := namespace(t, nil)
	service, err := shared.client.CoreV1().Services(name).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "gateway"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	addresses := func(want int) {
		t.Helper()
		eventually(t, func(ctx context.Context) error {
			service, err = shared.client.CoreV1().Services(name).Get(ctx, "gateway", metav1.GetOptions{})
			if err == nil && len(service.Status.LoadBalancer.Ingress) != want {
				err = fmt.Errorf("status is %+v", service.Status)
			}
			return err
		})
	}
	addresses(1)
	service.Spec.Type = corev1.ServiceTypeClusterIP
	if _, err := shared.client.CoreV1().Services(name).Update(t.Context(), service, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	addresses(0)
}
