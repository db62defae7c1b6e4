package mesh

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// An Entry is one pod of a census.
type Entry struct {
	Namespace, Pod string
	Owner          kube.Ref // what manages it in the end; the pod itself if nothing does
	// Mesh is the one that the pod is in, or that means to have it; empty if
	// there is none.
	Mesh string
	Proxy
	// Reasons are why the pod is not as it would be if it were made now; none
	// if it is.
	Reasons []Reason
	// Exempt is why a mesh that claims the pod never takes it in.
	Exempt string
}

// A Census looks at the pods of a cluster, whoever enrolled them.
type Census struct {
	Cluster *kube.Cluster
	// Meshes that pods may be in.
	Meshes []Mesh
	// Namespace and LabelSelector limit it; both may be empty.
	Namespace, LabelSelector string
	// Now is the instant that pods are judged at.
	Now time.Time
}

// Each tells of every living pod, page by page, in no particular order. A visit
// that fails ends the census with its error.
func (c Census) Each(ctx context.Context, visit func(Entry) error) error {
	planes := make([]ControlPlane, len(c.Meshes))
	for i, m := range c.Meshes {
		plane, err := m.ControlPlane(ctx, c.Cluster)
		if err != nil && !errors.Is(err, ErrNoControlPlane) {
			return err
		}
		if err == nil {
			planes[i] = plane
		}
	}
	return c.Cluster.EachPod(ctx, c.Namespace, c.LabelSelector, func(pod *corev1.Pod) error {
		if !Living(pod) {
			return nil
		}
		entry, err := c.entry(ctx, planes, pod)
		if errors.Is(err, kube.ErrNotFound) {
			return nil // Its namespace has gone, and so is the pod.
		}
		if err != nil {
			return err
		}
		return visit(entry)
	})
}

func (c Census) entry(ctx context.Context, planes []ControlPlane, pod *corev1.Pod) (Entry, error) {
	d := DataPlane{Cluster: c.Cluster, Now: c.Now}
	subject, owner, _, err := d.subject(ctx, pod)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{Namespace: pod.Namespace, Pod: pod.Name, Owner: owner}
	claim := MarkOf(pod)
	if subject.Template != nil {
		claim = MarkOf(subject.Template)
	}
	for i, m := range c.Meshes {
		shown := m.Proxy(pod)
		if shown.Mode == "" && (entry.Mesh != "" || !m.Claims(MarkOf(subject.Namespace), claim)) {
			continue
		}
		d.Mesh = m
		entry.Mesh, entry.Proxy = m.Name(), shown
		entry.Reasons, entry.Exempt = nil, ""
		if entry.Exempt = cmp.Or(d.exempt(subject, false), d.refused(planes[i], subject, shown)); entry.Exempt == "" {
			entry.Reasons = d.judge(planes[i], subject, shown)
		}
		if shown.Mode != "" {
			break
		}
	}
	entry.Settings = shown(entry.Settings, d.Mesh)
	return entry, nil
}

// hidden stands for a value that is not shown.
const hidden = "(hidden)"

// shown are settings without the values of secret ones.
func shown(settings map[string]string, m Mesh) map[string]string {
	visible := maps.Clone(settings)
	for key := range visible {
		if m.Secret(key) {
			visible[key] = hidden
		}
	}
	return visible
}
