package helm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// apiServer is the part of a Kubernetes API server that Helm needs: it stores objects under their paths and merges
// patches. CustomResourceDefinitions make it serve their kinds; deleting one deletes the objects of its kind.
type apiServer struct {
	*httptest.Server
	mu       sync.Mutex
	objects  map[string]*unstructured.Unstructured // by path
	revision int
	requests []string
	// intercept, if set, sees every request first and tells whether it has dealt with it. next is what would.
	intercept func(w http.ResponseWriter, request *http.Request, next http.HandlerFunc) bool
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{objects: map[string]*unstructured.Unstructured{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, request.Method+" "+request.URL.Path)
		intercept := s.intercept
		s.mu.Unlock()
		if intercept == nil || !intercept(w, request, s.serve) {
			s.serve(w, request)
		}
	}))
	t.Cleanup(func() {
		// Discovery that was left alone by a test of silence is still waiting.
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// copy returns a server with the same objects.
func (s *apiServer) copy(t *testing.T) *apiServer {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	other := newAPIServer(t)
	other.revision = s.revision
	for path, object := range s.objects {
		other.objects[path] = object.DeepCopy()
	}
	return other
}

// connection implements Connection.
type connection struct {
	config    *rest.Config
	discovery discovery.CachedDiscoveryInterface
	mapper    meta.ResettableRESTMapper
}

func (c *connection) RESTConfig() *rest.Config                      { return rest.CopyConfig(c.config) }
func (c *connection) Mapper() meta.ResettableRESTMapper             { return c.mapper }
func (c *connection) Discovery() discovery.CachedDiscoveryInterface { return c.discovery }
func (c *connection) Explained(_ context.Context, err error) error  { return err }

func (c *connection) Version(ctx context.Context) (string, error) {
	info, err := discovery.ToDiscoveryInterfaceWithContext(c.discovery).ServerVersionWithContext(ctx)
	if err != nil {
		return "", err
	}
	return info.GitVersion, nil
}

func connect(t *testing.T, config *rest.Config) *connection {
	t.Helper()
	config.QPS = -1
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	cached := memory.NewMemCacheClient(client)
	return &connection{config: config, discovery: cached, mapper: restmapper.NewDeferredDiscoveryRESTMapper(cached)}
}

func (s *apiServer) releases(t *testing.T) *Releases {
	t.Helper()
	releases, err := NewReleases(connect(t, &rest.Config{Host: s.URL}), ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return releases
}

// under sets intercept until the returned function is called.
func (s *apiServer) under(fault func(http.ResponseWriter, *http.Request, http.HandlerFunc) bool) (heal func()) {
	set := func(fault func(http.ResponseWriter, *http.Request, http.HandlerFunc) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.intercept = fault
	}
	set(fault)
	return func() { set(nil) }
}

// count returns how many of the requests have had the prefix, such as "GET /api/".
func (s *apiServer) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, request := range s.requests {
		if strings.HasPrefix(request, prefix) {
			n++
		}
	}
	return n
}

// names returns kind/name of all objects but Helm's records and what tests put there first.
func (s *apiServer) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, object := range s.objects {
		if object.GetLabels()["owner"] != "helm" {
			names = append(names, object.GetKind()+"/"+object.GetName())
		}
	}
	slices.Sort(names)
	return names
}

func (s *apiServer) get(path string) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	if object := s.objects[path]; object != nil {
		return object.DeepCopy()
	}
	return nil
}

func (s *apiServer) put(path string, object *unstructured.Unstructured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = object
}

func (s *apiServer) resources() map[string][]metav1.APIResource {
	resources := map[string][]metav1.APIResource{
		"v1": {
			{Name: "configmaps", Kind: "ConfigMap", Namespaced: true},
			{Name: "secrets", Kind: "Secret", Namespaced: true},
		},
		"apps/v1":                 {{Name: "deployments", Kind: "Deployment", Namespaced: true}},
		"batch/v1":                {{Name: "jobs", Kind: "Job", Namespaced: true}},
		"apiextensions.k8s.io/v1": {{Name: "customresourcedefinitions", Kind: crdKind}},
	}
	for _, object := range s.objects {
		if object.GetKind() != crdKind {
			continue
		}
		group, _, _ := unstructured.NestedString(object.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(object.Object, "spec", "names", "kind")
		plural, _, _ := unstructured.NestedString(object.Object, "spec", "names", "plural")
		resources[group+"/v1"] = append(resources[group+"/v1"], metav1.APIResource{Name: plural, Kind: kind, Namespaced: true})
	}
	return resources
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	answer(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reason, Message: strings.ToLower(string(reason)),
	})
}

func (s *apiServer) serve(w http.ResponseWriter, request *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.discover(w, request.URL.Path) {
		return
	}
	served := false
	for group, kinds := range s.resources() {
		for _, kind := range kinds {
			prefix := "/apis/" + group
			if !strings.Contains(group, "/") {
				prefix = "/api/" + group
			}
			served = served || strings.HasPrefix(request.URL.Path, prefix+"/") && strings.Contains(request.URL.Path, "/"+kind.Name)
		}
	}
	if !served {
		http.NotFound(w, request)
		return
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	stored := s.objects[request.URL.Path]
	collection := request.Method == http.MethodPost || isCollection(request.URL.Path)
	switch {
	case request.Method == http.MethodGet && collection:
		s.list(w, request)
		return
	case stored == nil && !collection:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	case request.Method == http.MethodGet:
		answer(w, http.StatusOK, stored)
		return
	case request.Method == http.MethodDelete:
		s.delete(request.URL.Path)
		answer(w, http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Success"})
		return
	case request.Method == http.MethodPatch:
		if body, err = patched(stored, types.PatchType(request.Header.Get("Content-Type")), body); err != nil {
			refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
			return
		}
	}
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(body, object); err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	code := http.StatusOK
	target := request.URL.Path
	if request.Method == http.MethodPost {
		target = path.Join(target, object.GetName())
		code = http.StatusCreated
		if s.objects[target] != nil {
			refuse(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
			return
		}
	}
	s.revision++
	object.SetResourceVersion(strconv.Itoa(s.revision))
	if _, after, ok := strings.Cut(target, "/namespaces/"); ok {
		namespace, _, _ := strings.Cut(after, "/")
		object.SetNamespace(namespace)
	}
	if manager := request.URL.Query().Get("fieldManager"); manager != "" {
		object.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: manager}})
	}
	switch object.GetKind() {
	case crdKind:
		_ = unstructured.SetNestedSlice(object.Object,
			[]any{map[string]any{"type": "Established", "status": "True"}}, "status", "conditions")
	case "Job":
		_ = unstructured.SetNestedSlice(object.Object,
			[]any{map[string]any{"type": "Complete", "status": "True"}}, "status", "conditions")
	}
	s.objects[target] = object
	answer(w, code, object)
}

// isCollection tells a collection from an object: /api/v1/namespaces/n/secrets, /apis/group/v1/things.
func isCollection(target string) bool {
	parts := strings.Split(strings.Trim(target, "/"), "/")
	if parts[0] == "api" {
		parts = append([]string{"apis", ""}, parts[1:]...)
	}
	if len(parts) > 4 && parts[3] == "namespaces" {
		return len(parts) == 6
	}
	return len(parts) == 4
}

func (s *apiServer) discover(w http.ResponseWriter, target string) bool {
	resources := s.resources()
	switch parts := strings.Split(strings.Trim(target, "/"), "/"); {
	case target == "/version":
		answer(w, http.StatusOK, map[string]string{"gitVersion": "v1.34.1", "major": "1", "minor": "34"})
	case target == "/api":
		answer(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
	case target == "/apis":
		list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}}
		for version := range resources {
			if group, _, ok := strings.Cut(version, "/"); ok {
				only := metav1.GroupVersionForDiscovery{GroupVersion: version, Version: "v1"}
				list.Groups = append(list.Groups, metav1.APIGroup{
					Name: group, Versions: []metav1.GroupVersionForDiscovery{only}, PreferredVersion: only,
				})
			}
		}
		answer(w, http.StatusOK, list)
	case len(parts) == 2 && parts[0] == "api", len(parts) == 3 && parts[0] == "apis":
		version := strings.Join(parts[1:], "/")
		if resources[version] == nil {
			http.NotFound(w, &http.Request{})
			return true
		}
		answer(w, http.StatusOK, metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: version, APIResources: resources[version],
		})
	default:
		return false
	}
	return true
}

func (s *apiServer) list(w http.ResponseWriter, request *http.Request) {
	selector, err := labels.Parse(request.URL.Query().Get("labelSelector"))
	if err != nil {
		refuse(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	items := []any{}
	for target, object := range s.objects {
		if path.Dir(target) == request.URL.Path && selector.Matches(labels.Set(object.GetLabels())) {
			items = append(items, object.Object)
		}
	}
	answer(w, http.StatusOK, map[string]any{"apiVersion": "v1", "kind": "SecretList", "metadata": map[string]any{}, "items": items})
}

func (s *apiServer) delete(target string) {
	object := s.objects[target]
	delete(s.objects, target)
	if object.GetKind() != crdKind {
		return
	}
	kind, _, _ := unstructured.NestedString(object.Object, "spec", "names", "kind")
	for other, custom := range s.objects {
		if custom.GetKind() == kind {
			delete(s.objects, other)
		}
	}
}

func patched(stored *unstructured.Unstructured, kind types.PatchType, patch []byte) ([]byte, error) {
	original, err := json.Marshal(stored)
	if err != nil {
		return nil, err
	}
	switch kind {
	case types.MergePatchType:
		return jsonpatch.MergePatch(original, patch)
	case types.StrategicMergePatchType:
		typed, err := scheme.Scheme.New(stored.GroupVersionKind())
		if err != nil {
			if stored.GroupVersionKind() != (schema.GroupVersionKind{Group: apiextensionsv1.GroupName, Version: "v1", Kind: crdKind}) {
				return nil, err
			}
			typed = &apiextensionsv1.CustomResourceDefinition{}
		}
		return strategicpatch.StrategicMergePatch(original, patch, typed)
	default:
		return nil, fmt.Errorf("patch type %q", kind)
	}
}
