package profile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
)

// routeKinds are the kinds by which traffic to a Service can be routed instead.
func routeKinds() []schema.GroupKind {
	return []schema.GroupKind{
		{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute"},
		{Group: "gateway.networking.k8s.io", Kind: "GRPCRoute"},
		{Group: "policy.linkerd.io", Kind: "HTTPRoute"},
	}
}

// Findings tells, one line each, what a profile for the target overrules, what
// overrules it, and why it may have no effect. It goes by shared reads.
func Findings(ctx context.Context, cluster *kube.Cluster, t Target) ([]string, error) {
	findings, err := t.aboutService(ctx, cluster)
	if err != nil {
		return nil, err
	}
	whose := "clients go"
	if t.ClientNamespace != "" {
		whose = "clients in Namespace " + t.ClientNamespace + " go"
	}
	for _, kind := range routeKinds() {
		routes, err := listed(ctx, cluster, kind)
		if err != nil {
			return nil, err
		}
		for _, route := range routes {
			if t.parentOf(route) {
				findings = append(findings, fmt.Sprintf("%s %s/%s of %s routes the Service's traffic, but %s by the ServiceProfile alone as soon as there is one: its rules, and the retries and timeouts that it and the Service ask for by annotations, have no effect",
					kind.Kind, route.GetNamespace(), route.GetName(), kind.Group, whose))
			}
		}
	}
	if t.ClientNamespace != "" {
		return findings, nil
	}
	profiles, err := listed(ctx, cluster, Kind().GVK().GroupKind())
	if err != nil {
		return nil, err
	}
	for _, other := range profiles {
		if other.GetName() == t.Name() && other.GetNamespace() != t.Home() {
			findings = append(findings, fmt.Sprintf("ServiceProfile %s/%s overrules this one for clients in Namespace %s", other.GetNamespace(), other.GetName(), other.GetNamespace()))
		}
	}
	return findings, nil
}

// aboutService tells what the Service and the pods behind it have against it.
func (t Target) aboutService(ctx context.Context, cluster *kube.Cluster) ([]string, error) {
	services, err := cluster.Services(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(services, func(s *corev1.Service) bool { return s.Name == t.Service })
	if i < 0 {
		return []string{fmt.Sprintf("%s does not exist: until it does, nobody goes by the profile", t.serviceRef())}, nil
	}
	var findings []string
	for _, key := range slices.Sorted(maps.Keys(services[i].Annotations)) {
		switch {
		case strings.HasPrefix(key, "retry.linkerd.io/"), strings.HasPrefix(key, "timeout.linkerd.io/"):
			findings = append(findings, fmt.Sprintf("the annotation %s of %s has no effect beside a ServiceProfile: say it of routes instead", key, t.serviceRef()))
		case strings.HasPrefix(key, "balancer.linkerd.io/failure-accrual"):
			findings = append(findings, fmt.Sprintf("the annotation %s of %s has no effect beside a ServiceProfile: proxies do no circuit breaking for a Service that has one, and leave no endpoint out for its failures", key, t.serviceRef()))
		}
	}
	if len(services[i].Spec.Selector) == 0 {
		return findings, nil
	}
	pods, err := cluster.Pods(ctx, t.Namespace)
	if err != nil {
		return nil, err
	}
	selector := labels.SelectorFromSet(services[i].Spec.Selector)
	behind := slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return !selector.Matches(labels.Set(p.Labels)) })
	meshed := func(p *corev1.Pod) bool { return linkerd.Injection{}.Proxy(p).Mode != "" }
	if len(behind) > 0 && !slices.ContainsFunc(behind, meshed) {
		findings = append(findings, fmt.Sprintf("none of the %d pods behind %s is in the mesh, so that only meshed clients go by the profile, and only they report metrics by route", len(behind), t.serviceRef()))
	}
	return findings, nil
}

// listed are all objects of a kind; none if the cluster does not serve it.
func listed(ctx context.Context, cluster *kube.Cluster, kind schema.GroupKind) ([]*unstructured.Unstructured, error) {
	mapping, err := cluster.Mapper().RESTMapping(kind)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find kind %s: %w", kind, cluster.Explained(ctx, err))
	}
	objects, _, err := cluster.ListServed(ctx, kube.Kind{
		Group: kind.Group, Version: mapping.GroupVersionKind.Version, Name: kind.Kind, Resource: mapping.Resource.Resource, Namespaced: true,
	}, "")
	return objects, err
}

// parentOf reports whether a route is attached to the Service.
func (t Target) parentOf(route *unstructured.Unstructured) bool {
	parents, _, err := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(parents, func(entry any) bool {
		parent, _ := entry.(map[string]any)
		group, _ := parent["group"].(string)
		namespace, given := parent["namespace"].(string)
		if !given {
			namespace = route.GetNamespace()
		}
		return parent["kind"] == kube.Service.Name && (group == "" || group == "core") && parent["name"] == t.Service && namespace == t.Namespace
	})
}
