// Package checktest stands in for an API server in tests of checks: it serves
// objects that a test has made up, in pages, says yes to every question about
// permissions unless told otherwise, and counts what it is asked for. It keeps
// nothing that is written and validates nothing; real API servers are
// internal/testcluster's.
package checktest

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// API is the stand-in. Its fields may be changed until the first request.
type API struct {
	// Version of Kubernetes that it gives.
	Version string
	// Denied tells which kinds, by their resources, may not be created; nil is none.
	Denied func(resource string) bool
	// Forbidden tells which kinds, by their resources, may not be read; nil is none.
	Forbidden func(resource string) bool
	// Refusal is the answer to whoever creates a webhook configuration, PodRefusal to
	// whoever creates a pod that is to change its network; zero is yes.
	Refusal, PodRefusal metav1.Status
	// Admit judges, and may change, what is created otherwise; nil, and a zero answer,
	// is yes.
	Admit func(object *unstructured.Unstructured) metav1.Status
	// Issuer of the tokens of service accounts; empty if it is not told.
	Issuer string

	objects map[kube.Ref]*unstructured.Unstructured
	kinds   map[string]kube.Kind // by path

	mu       sync.Mutex
	requests []string
	encoded  map[string][]item // by group, version and resource, in order
}

type item struct {
	namespace, name string
	data            json.RawMessage
}

// New is an API without objects.
func New() *API {
	return &API{Version: "v1.34.2", objects: map[kube.Ref]*unstructured.Unstructured{}, kinds: map[string]kube.Kind{}, encoded: map[string][]item{}}
}

// Put makes an object exist, of one of the Go types of Kubernetes or as a map.
func (a *API) Put(kind kube.Kind, object any) {
	content, is := object.(map[string]any)
	if !is {
		var err error
		if content, err = runtime.DefaultUnstructuredConverter.ToUnstructured(object); err != nil {
			panic(err) // A test's own object.
		}
	}
	o := &unstructured.Unstructured{Object: content}
	o.SetGroupVersionKind(kind.GVK())
	a.kinds[pathOf(kind)] = kind
	a.objects[kube.Ref{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}] = o
}

// Name makes objects exist of which nothing but their names matters; without any,
// only the kind is known.
func (a *API) Name(kind kube.Kind, namespace string, names ...string) {
	a.kinds[pathOf(kind)] = kind
	for _, name := range names {
		a.Put(kind, map[string]any{"metadata": map[string]any{"namespace": namespace, "name": name}})
	}
}

// Change changes an object that exists.
func (a *API) Change(ref kube.Ref, change func(content map[string]any)) {
	o := a.objects[ref]
	if o == nil {
		panic(ref.String() + " does not exist")
	}
	changed := o.DeepCopy()
	change(changed.Object)
	a.objects[ref] = changed
}

// Drop has objects not exist any more.
func (a *API) Drop(refs ...kube.Ref) {
	for _, ref := range refs {
		delete(a.objects, ref)
	}
}

// Connect serves the API until the test ends.
func (a *API) Connect(t testing.TB) *kube.Cluster {
	t.Helper()
	for ref, o := range a.objects {
		data, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		of := pathOf(ref.Kind)
		a.encoded[of] = append(a.encoded[of], item{ref.Namespace, ref.Name, data})
	}
	for _, items := range a.encoded {
		slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name) })
	}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	cluster, err := kube.Connect(kube.Settings{Host: server.URL, RequestTimeout: 10 * time.Second}, "checktest")
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

// Requests are those that were made, such as "GET /api/v1/pods".
func (a *API) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

func pathOf(kind kube.Kind) string {
	if kind.Group == "" {
		return "/api/" + kind.Version + "/" + kind.Resource
	}
	return "/apis/" + kind.Group + "/" + kind.Version + "/" + kind.Resource
}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests = append(a.requests, r.Method+" "+r.URL.Path)
	a.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/version":
		answer(w, http.StatusOK, map[string]any{"gitVersion": a.Version})
	case r.Method == http.MethodPost && parts[len(parts)-1] == "selfsubjectaccessreviews":
		a.review(w, r)
	case r.URL.Path == "/.well-known/openid-configuration" && a.Issuer != "":
		answer(w, http.StatusOK, map[string]any{"issuer": a.Issuer})
	case r.Method == http.MethodPost:
		a.create(w, r)
	case r.Method == http.MethodGet:
		a.read(w, r, parts)
	default:
		answer(w, http.StatusMethodNotAllowed, metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonMethodNotAllowed, Code: http.StatusMethodNotAllowed})
	}
}

// create answers what would come of an object.
func (a *API) create(w http.ResponseWriter, r *http.Request) {
	object := &unstructured.Unstructured{}
	if err := json.NewDecoder(r.Body).Decode(&object.Object); err != nil {
		answer(w, http.StatusBadRequest, metav1.Status{Status: metav1.StatusFailure, Message: err.Error(), Code: http.StatusBadRequest})
		return
	}
	var status metav1.Status
	switch kind := object.GetKind(); {
	case kind == kube.MutatingWebhookConfiguration.Name && a.Refusal.Code != 0:
		status = a.Refusal
	case kind == kube.Pod.Name && a.PodRefusal.Code != 0 && asksForNetwork(object):
		status = a.PodRefusal
	case a.Admit != nil:
		status = a.Admit(object)
	}
	if status.Code != 0 {
		answer(w, int(status.Code), status)
		return
	}
	answer(w, http.StatusCreated, object.Object)
}

// asksForNetwork tells whether an init container of a pod may change its network.
func asksForNetwork(pod *unstructured.Unstructured) bool {
	containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "initContainers")
	return slices.ContainsFunc(containers, func(c any) bool {
		fields, _ := c.(map[string]any)
		capabilities, _, _ := unstructured.NestedStringSlice(fields, "securityContext", "capabilities", "add")
		return slices.Contains(capabilities, "NET_ADMIN")
	})
}

// review answers whether something may be done.
func (a *API) review(w http.ResponseWriter, r *http.Request) {
	var object map[string]any
	if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
		answer(w, http.StatusBadRequest, metav1.Status{Status: metav1.StatusFailure, Message: err.Error(), Code: http.StatusBadRequest})
		return
	}
	resource, _, _ := unstructured.NestedString(object, "spec", "resourceAttributes", "resource")
	object["status"] = map[string]any{"allowed": a.Denied == nil || resource != "*" && !a.Denied(resource)}
	answer(w, http.StatusCreated, object)
}

// read answers a GET of one object, or of a list.
func (a *API) read(w http.ResponseWriter, r *http.Request, parts []string) {
	root := 2 // api, version
	if parts[0] == "apis" {
		root = 3
	}
	if len(parts) <= root {
		a.discover(w, parts, root)
		return
	}
	below := parts[root:]
	namespace := ""
	if below[0] == "namespaces" && len(below) > 2 {
		namespace, below = below[1], below[2:]
	}
	if a.Forbidden != nil && a.Forbidden(below[0]) {
		answer(w, http.StatusForbidden, metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden, Message: "User cannot read resource " + below[0],
		})
		return
	}
	path := "/" + strings.Join(append(slices.Clone(parts[:root]), below[0]), "/")
	items := slices.DeleteFunc(slices.Clone(a.encoded[path]), func(i item) bool {
		return namespace != "" && i.namespace != namespace || len(below) > 1 && i.name != below[1]
	})
	if len(below) > 1 {
		if len(items) == 0 {
			answer(w, http.StatusNotFound, metav1.Status{
				Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound,
				Details: &metav1.StatusDetails{Name: below[1], Kind: below[0], Group: groupOf(parts)},
			})
			return
		}
		answer(w, http.StatusOK, items[0].data)
		return
	}
	query := r.URL.Query()
	from, _ := strconv.Atoi(query.Get("continue")) // None is the beginning.
	limit, _ := strconv.Atoi(query.Get("limit"))
	metadata := map[string]any{"resourceVersion": "1"}
	to := len(items)
	if limit > 0 && from+limit < to {
		to = from + limit
		metadata["continue"] = strconv.Itoa(to)
	}
	list := []json.RawMessage{}
	for _, i := range items[from:to] {
		list = append(list, i.data)
	}
	answer(w, http.StatusOK, map[string]any{"kind": a.kinds[path].Name + "List", "apiVersion": strings.Join(parts[1:root], "/"), "metadata": metadata, "items": list})
}

// discover answers which groups there are, or which kinds of a version of one.
func (a *API) discover(w http.ResponseWriter, parts []string, root int) {
	if len(parts) == root {
		list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: strings.Join(parts[1:], "/")}
		for _, kind := range a.kinds {
			if kind.GVK().GroupVersion().String() == list.GroupVersion {
				list.APIResources = append(list.APIResources, metav1.APIResource{Name: kind.Resource, Kind: kind.Name, Namespaced: kind.Namespaced})
			}
		}
		answer(w, http.StatusOK, list)
		return
	}
	if parts[0] == "api" {
		answer(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
		return
	}
	groups := map[string]metav1.APIGroup{}
	for _, kind := range a.kinds {
		if kind.Group == "" {
			continue
		}
		version := metav1.GroupVersionForDiscovery{GroupVersion: kind.GVK().GroupVersion().String(), Version: kind.Version}
		groups[kind.Group] = metav1.APIGroup{Name: kind.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version}
	}
	answer(w, http.StatusOK, metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: slices.Collect(maps.Values(groups))})
}

func groupOf(parts []string) string {
	if parts[0] == "apis" {
		return parts[1]
	}
	return ""
}

func answer(w http.ResponseWriter, code int, content any) {
	if status, is := content.(metav1.Status); is {
		status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		content = status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(content); err != nil {
		panic(http.ErrAbortHandler) // Whoever asked has gone.
	}
}
