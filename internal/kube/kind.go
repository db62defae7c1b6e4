package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind identifies a kind of object in the form in which requests need it.
// Kinds are comparable. The ones below need no discovery; for any other kind
// the API server is asked once ([Cluster.KindFor]).
type Kind struct {
	Group      string // "" for the core group
	Version    string
	Resource   string // lower-case plural, as in request paths
	Name       string // as in manifests: Deployment
	Namespaced bool
}

// The kinds that are known without asking the API server.
var (
	Namespace      = Kind{Version: "v1", Resource: "namespaces", Name: "Namespace"}
	Node           = Kind{Version: "v1", Resource: "nodes", Name: "Node"}
	Pod            = Kind{Version: "v1", Resource: "pods", Name: "Pod", Namespaced: true}
	Secret         = Kind{Version: "v1", Resource: "secrets", Name: "Secret", Namespaced: true}
	ConfigMap      = Kind{Version: "v1", Resource: "configmaps", Name: "ConfigMap", Namespaced: true}
	Service        = Kind{Version: "v1", Resource: "services", Name: "Service", Namespaced: true}
	ServiceAccount = Kind{Version: "v1", Resource: "serviceaccounts", Name: "ServiceAccount", Namespaced: true}
	Event          = Kind{Version: "v1", Resource: "events", Name: "Event", Namespaced: true}

	Deployment  = Kind{Group: "apps", Version: "v1", Resource: "deployments", Name: "Deployment", Namespaced: true}
	StatefulSet = Kind{Group: "apps", Version: "v1", Resource: "statefulsets", Name: "StatefulSet", Namespaced: true}
	DaemonSet   = Kind{Group: "apps", Version: "v1", Resource: "daemonsets", Name: "DaemonSet", Namespaced: true}
	ReplicaSet  = Kind{Group: "apps", Version: "v1", Resource: "replicasets", Name: "ReplicaSet", Namespaced: true}
	Job         = Kind{Group: "batch", Version: "v1", Resource: "jobs", Name: "Job", Namespaced: true}
	CronJob     = Kind{Group: "batch", Version: "v1", Resource: "cronjobs", Name: "CronJob", Namespaced: true}

	NetworkPolicy           = Kind{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies", Name: "NetworkPolicy", Namespaced: true}
	PodDisruptionBudget     = Kind{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets", Name: "PodDisruptionBudget", Namespaced: true}
	HorizontalPodAutoscaler = Kind{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers", Name: "HorizontalPodAutoscaler", Namespaced: true}

	Role               = Kind{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles", Name: "Role", Namespaced: true}
	RoleBinding        = Kind{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings", Name: "RoleBinding", Namespaced: true}
	ClusterRole        = Kind{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles", Name: "ClusterRole"}
	ClusterRoleBinding = Kind{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings", Name: "ClusterRoleBinding"}

	CustomResourceDefinition       = Kind{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Name: "CustomResourceDefinition"}
	APIService                     = Kind{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices", Name: "APIService"}
	MutatingWebhookConfiguration   = Kind{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations", Name: "MutatingWebhookConfiguration"}
	ValidatingWebhookConfiguration = Kind{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations", Name: "ValidatingWebhookConfiguration"}
)

func staticKinds() []Kind {
	return []Kind{
		Namespace, Node, Pod, Secret, ConfigMap, Service, ServiceAccount, Event,
		Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob,
		NetworkPolicy, PodDisruptionBudget, HorizontalPodAutoscaler,
		Role, RoleBinding, ClusterRole, ClusterRoleBinding,
		CustomResourceDefinition, APIService, MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
	}
}

// GVK returns the kind as manifests name it.
func (k Kind) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Name}
}

// GVR returns the kind as request paths name it.
func (k Kind) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group, Version: k.Version, Resource: k.Resource}
}

func (k Kind) String() string { return k.Name }

// Ref names one object of a cluster.
type Ref struct {
	Kind      Kind
	Namespace string // empty for kinds that are not namespaced
	Name      string
}

// String is the form used in every message: "Deployment dgraph/alpha",
// "Namespace dgraph".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind.Name + " " + r.Name
	}
	return r.Kind.Name + " " + r.Namespace + "/" + r.Name
}

// Object returns a new object with nothing but the identity of the reference:
// what a server-side apply begins with.
func (r Ref) Object() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(r.Kind.GVK())
	object.SetNamespace(r.Namespace)
	object.SetName(r.Name)
	return object
}

// validate catches references that would otherwise become a request to
// another path, whose 404 says nothing about the object meant.
func (r Ref) validate() error {
	switch {
	case r.Kind.Resource == "" || r.Kind.Version == "":
		return fmt.Errorf("%s: its kind has no API version or resource name", r)
	case r.Name == "":
		return fmt.Errorf("%s in namespace %q: the name is empty", r.Kind, r.Namespace)
	case r.Kind.Namespaced && r.Namespace == "":
		return fmt.Errorf("%s: the namespace is empty", r)
	case !r.Kind.Namespaced && r.Namespace != "":
		return fmt.Errorf("%s: objects of this kind have no namespace", r)
	}
	return nil
}
