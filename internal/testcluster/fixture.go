package testcluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
)

// readyTimeout bounds the wait for a fixture. Pods are simulated and take
// about a second; the rest is for machines under load.
const readyTimeout = 3 * time.Minute

// Namespace creates a namespace with a name of its own and asks for its
// deletion when the test ends. It returns the name.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()

	namespaces := c.client.CoreV1().Namespaces()

	created, err := namespaces.Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create a namespace: %v", err)
	}

	t.Cleanup(func() {
		err := namespaces.Delete(context.WithoutCancel(t.Context()), created.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("delete namespace %s: %v", created.Name, err)
		}
	})

	return created.Name
}

// NewDeployment returns a Deployment of the given replicas of one container
// that never runs: nodes are simulated. Pods are labelled app=<name>.
func NewDeployment(namespace, name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}

	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{
						Name:  "main",
						Image: "registry.invalid/" + name + ":1",
						Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
					}},
				},
			},
		},
	}
}

// CreateDeployment creates a Deployment as NewDeployment describes it and
// returns when all its replicas are available. It goes with its namespace.
func (c *Cluster) CreateDeployment(t testing.TB, namespace, name string, replicas int32) *appsv1.Deployment {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()

	created, err := c.client.AppsV1().Deployments(namespace).
		Create(ctx, NewDeployment(namespace, name, replicas), metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create Deployment %s/%s: %v", namespace, name, err)
	}

	available, err := c.awaitDeployment(ctx, created)
	if err != nil {
		t.Fatal(err)
	}

	return available
}

func (c *Cluster) awaitDeployment(ctx context.Context, d *appsv1.Deployment) (*appsv1.Deployment, error) {
	events, err := c.client.AppsV1().Deployments(d.Namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector(metav1.ObjectNameField, d.Name).String(),
		ResourceVersion: d.ResourceVersion,
	})
	if err != nil {
		return nil, fmt.Errorf("watch Deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	defer events.Stop()

	last := d

	for event := range events.ResultChan() {
		current, ok := event.Object.(*appsv1.Deployment)
		if !ok || event.Type == watch.Deleted {
			return nil, fmt.Errorf("watch Deployment %s/%s: unexpected %s event", d.Namespace, d.Name, event.Type)
		}

		last = current
		status := current.Status
		replicas := *current.Spec.Replicas

		if status.ObservedGeneration >= current.Generation &&
			status.UpdatedReplicas == replicas && status.AvailableReplicas == replicas {
			return current, nil
		}
	}

	return nil, fmt.Errorf("wait for Deployment %s/%s with %d of %d replicas available: %w",
		d.Namespace, d.Name, last.Status.AvailableReplicas, *d.Spec.Replicas, context.Cause(ctx))
}
