package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// Which finds out which of the meshes the pods of a namespace with all of the
// labels belong to: the one whose proxies they have; or, if none has any, the
// one that the namespace or their labels and annotations ask for; or else the
// only one that is installed. The error wraps [ErrNoControlPlane] if none is. It
// reads shared reads only.
func Which(ctx context.Context, cluster *kube.Cluster, namespace string, selector map[string]string, meshes ...Mesh) (Mesh, error) {
	surroundings, err := cluster.Namespace(ctx, namespace)
	if err != nil {
		return nil, err
	}
	all, err := cluster.Pods(ctx, namespace)
	if err != nil {
		return nil, err
	}
	var pods []*corev1.Pod
	for _, pod := range all {
		if labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	var running, claiming, installed []Mesh
	for _, m := range meshes {
		proxies, claims := 0, m.Claims(MarkOf(surroundings), Mark{})
		for _, pod := range pods {
			if m.Proxy(pod).Mode != "" {
				proxies++
			}
			claims = claims || m.Claims(MarkOf(surroundings), MarkOf(pod))
		}
		if proxies > 0 {
			running = append(running, m)
		}
		if claims {
			claiming = append(claiming, m)
		}
		switch _, err := m.ControlPlane(ctx, cluster); {
		case err == nil:
			installed = append(installed, m)
		case !errors.Is(err, ErrNoControlPlane):
			return nil, err
		}
	}
	subject := fmt.Sprintf("pods of Namespace %s", namespace)
	if len(selector) > 0 {
		subject += fmt.Sprintf(" with the labels %s", labels.Set(selector))
	}
	for _, found := range []struct {
		why    string
		meshes []Mesh
	}{{"have proxies of", running}, {"are asked into", claiming}, {"could belong to", installed}} {
		names := distinctNames(found.meshes)
		if len(names) > 1 {
			return nil, fmt.Errorf("%s %s %s; say which mesh is meant", subject, found.why, strings.Join(names, " and "))
		}
		if len(names) == 1 {
			return found.meshes[0], nil
		}
	}
	return nil, fmt.Errorf("%s: %w; install a mesh, or say which mesh is meant", subject, ErrNoControlPlane)
}

// distinctNames are the names of meshes, of which one may be there in two modes.
func distinctNames(meshes []Mesh) []string {
	var names []string
	for _, m := range meshes {
		if !slices.Contains(names, m.Name()) {
			names = append(names, m.Name())
		}
	}
	return names
}
