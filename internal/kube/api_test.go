package kube

import (
	"encoding/json"
	"fmt"
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
	"k8s.io/apimachinery/pkg/types"
)

// api is a double of an API server: objects by path, pages, watches, and
// server-side apply by whole leaves. It counts what it is asked for.
type api struct {
	*httptest.Server

	mu       sync.Mutex
	version  int
	objects  map[string]*unstructured.Unstructured // by path of the object
	applied  map[string]map[string]map[string]any  // by path and manager: leaves by path
	requests []string                              // "LIST /api/v1/pods"
	history  []change
	changed  chan struct{} // closed and replaced at each change
	oldest   int           // watches from before this version are answered 410

	// intercept may answer a request itself, and says so. It is called without
	// the lock.
	intercept func(http.ResponseWriter, *http.Request) bool
}

type change struct {
	version int
	path    string
	event   string
	object  *unstructured.Unstructured
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{
		version: 100,
		objects: map[string]*unstructured.Unstructured{},
		applied: map[string]map[string]map[string]any{},
		changed: make(chan struct{}),
	}
	a.Server = httptest.NewServer(a)
	t.Cleanup(func() {
		a.CloseClientConnections() // Watches would otherwise keep Close waiting.
		a.Close()
	})
	return a
}

func (a *api) connect(t *testing.T) *Cluster {
	t.Helper()
	c, err := Connect(Settings{Host: a.URL, RequestTimeout: 2 * time.Second}, "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// set stores objects as a controller would: without regard to managers.
func (a *api) set(objects ...map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, content := range objects {
		o := (&unstructured.Unstructured{Object: content}).DeepCopy()
		a.store(pathOf(o), o)
	}
}

func pathOf(o *unstructured.Unstructured) string {
	for _, kind := range append(staticKinds(), serviceProfile) {
		if kind.GVK() == o.GroupVersionKind() {
			return refPath(Ref{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()})
		}
	}
	panic("no path for " + o.GroupVersionKind().String())
}

func refPath(ref Ref) string {
	path := "/apis/" + ref.Kind.Group + "/" + ref.Kind.Version
	if ref.Kind.Group == "" {
		path = "/api/" + ref.Kind.Version
	}
	if ref.Namespace != "" {
		path += "/namespaces/" + ref.Namespace
	}
	return path + "/" + ref.Kind.Resource + "/" + ref.Name
}

func (a *api) store(path string, o *unstructured.Unstructured) {
	a.version++
	event := "MODIFIED"
	if known := a.objects[path]; known == nil {
		event = "ADDED"
		if o.GetUID() == "" {
			o.SetUID(types.UID("uid-" + strconv.Itoa(a.version)))
		}
	} else if o.GetUID() == "" {
		o.SetUID(known.GetUID())
	}
	o.SetResourceVersion(strconv.Itoa(a.version))
	a.objects[path] = o
	a.record(change{a.version, path, event, o.DeepCopy()})
}

func (a *api) record(c change) {
	a.history = append(a.history, c)
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *api) remove(ref Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(refPath(ref))
}

func (a *api) drop(path string) {
	o := a.objects[path]
	if o == nil {
		return
	}
	a.version++
	o.SetResourceVersion(strconv.Itoa(a.version))
	delete(a.objects, path)
	delete(a.applied, path)
	a.record(change{a.version, path, "DELETED", o})
}

// get returns what is stored, or nil.
func (a *api) get(ref Ref) *unstructured.Unstructured {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o := a.objects[refPath(ref)]; o != nil {
		return o.DeepCopy()
	}
	return nil
}

// count returns how many requests of a kind were made, for example
// "LIST /api/v1/pods".
func (a *api) count(request string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, made := range a.requests {
		if made == request {
			n++
		}
	}
	return n
}

func (a *api) expireBefore(version int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.oldest = version
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	verb := map[string]string{http.MethodGet: "GET", http.MethodPost: "CREATE", http.MethodPatch: "PATCH", http.MethodDelete: "DELETE"}[r.Method]
	collection := isCollection(r.URL.Path)
	if verb == "GET" && collection {
		verb = "LIST"
	}
	if query.Get("watch") == "true" {
		verb = "WATCH"
	}
	a.mu.Lock()
	a.requests = append(a.requests, verb+" "+r.URL.Path)
	a.mu.Unlock()
	if a.intercept != nil && a.intercept(w, r) {
		return
	}
	switch verb {
	case "WATCH":
		a.watch(w, r)
	case "LIST":
		a.list(w, r)
	case "GET":
		a.answerObject(w, r.URL.Path)
	case "CREATE":
		a.create(w, r)
	case "PATCH":
		a.patchObject(w, r)
	case "DELETE":
		a.deleteObject(w, r)
	}
}

func isCollection(path string) bool {
	last := path[strings.LastIndexByte(path, '/')+1:]
	return slices.ContainsFunc(append(staticKinds(), serviceProfile), func(kind Kind) bool { return kind.Resource == last })
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func status(code int, reason metav1.StatusReason, message string, details *metav1.StatusDetails) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message, Details: details,
	}
}

func notFound(path string) *metav1.Status {
	resource := resourceOf(path)
	name := path[strings.LastIndexByte(path, '/')+1:]
	return status(http.StatusNotFound, metav1.StatusReasonNotFound, fmt.Sprintf("%s %q not found", resource, name),
		&metav1.StatusDetails{Group: resource.Group, Kind: resource.Resource, Name: name})
}

func (a *api) answerObject(w http.ResponseWriter, path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o := a.objects[path]; o != nil {
		answer(w, http.StatusOK, o)
		return
	}
	answer(w, http.StatusNotFound, notFound(path))
}

// under reports whether an object is part of a collection, which may be that of
// all namespaces.
func under(collection, object string) bool {
	if strings.HasPrefix(object, collection+"/") {
		return true
	}
	cut := strings.LastIndexByte(collection, '/')
	inNamespace, ok := strings.CutPrefix(object, collection[:cut]+"/namespaces/")
	parts := strings.Split(inNamespace, "/")
	return ok && !strings.Contains(collection, "/namespaces/") && len(parts) == 3 && parts[1] == collection[cut+1:]
}

func (a *api) list(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var paths []string
	for path, o := range a.objects {
		if !under(r.URL.Path, path) {
			continue
		}
		if selector := r.URL.Query().Get("fieldSelector"); selector != "" {
			kind, _, _ := unstructured.NestedString(o.Object, "involvedObject", "kind")
			name, _, _ := unstructured.NestedString(o.Object, "involvedObject", "name")
			if selector != "involvedObject.kind="+kind+",involvedObject.name="+name {
				continue
			}
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	start, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	end := len(paths)
	listMeta := map[string]any{"resourceVersion": strconv.Itoa(a.version)}
	if limit > 0 && start+limit < end {
		end = start + limit
		listMeta["continue"] = strconv.Itoa(end)
	}
	items := []any{}
	for _, path := range paths[start:end] {
		items = append(items, a.objects[path].Object)
	}
	gvk := gvkOf(r.URL.Path)
	answer(w, http.StatusOK, map[string]any{"apiVersion": gvk.GVK().GroupVersion().String(), "kind": gvk.Name + "List", "metadata": listMeta, "items": items})
}

func gvkOf(path string) Kind {
	resource := resourceOf(path + "/-")
	for _, kind := range append(staticKinds(), serviceProfile) {
		if kind.GVR().GroupResource() == resource {
			return kind
		}
	}
	panic("no kind for " + path)
}

func (a *api) watch(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	encoder := json.NewEncoder(w)
	for {
		a.mu.Lock()
		events := slices.Clone(a.history)
		changed, gone := a.changed, from < a.oldest
		a.mu.Unlock()
		if gone {
			_ = encoder.Encode(map[string]any{"type": "ERROR", "object": status(http.StatusGone, metav1.StatusReasonExpired, "too old resource version", nil)})
			return
		}
		for _, event := range events {
			if event.version > from && under(r.URL.Path, event.path) {
				_ = encoder.Encode(map[string]any{"type": event.event, "object": event.object})
			}
			from = max(from, event.version)
		}
		w.(http.Flusher).Flush() //nolint:forcetypeassert // net/http's writer is one.
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (a *api) create(w http.ResponseWriter, r *http.Request) {
	o := &unstructured.Unstructured{}
	if err := json.NewDecoder(r.Body).Decode(o); err != nil {
		answer(w, http.StatusBadRequest, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error(), nil))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	path := r.URL.Path + "/" + o.GetName()
	if a.objects[path] != nil {
		answer(w, http.StatusConflict, status(http.StatusConflict, metav1.StatusReasonAlreadyExists, "already exists", nil))
		return
	}
	a.store(path, o)
	answer(w, http.StatusCreated, o)
}

// leaves flattens an applied object to its leaves; lists are leaves.
func leaves(prefix string, content map[string]any, into map[string]any) {
	for key, value := range content {
		if inner, ok := value.(map[string]any); ok {
			leaves(prefix+"\x00"+key, inner, into)
			continue
		}
		into[prefix+"\x00"+key] = value
	}
}

func (a *api) patchObject(w http.ResponseWriter, r *http.Request) {
	patch := &unstructured.Unstructured{}
	if err := json.NewDecoder(r.Body).Decode(&patch.Object); err != nil {
		answer(w, http.StatusBadRequest, status(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error(), nil))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	path, manager := r.URL.Path, r.URL.Query().Get("fieldManager")
	live := a.objects[path]
	apply := r.Header.Get("Content-Type") == "application/apply-patch+yaml"
	uid, _, _ := unstructured.NestedString(patch.Object, "metadata", "uid")
	switch {
	case live == nil && (uid != "" || !apply):
		if apply {
			answer(w, http.StatusConflict, status(http.StatusConflict, metav1.StatusReasonConflict, "uid mismatch: no existing object was found", nil))
		} else {
			answer(w, http.StatusNotFound, notFound(path))
		}
		return
	case live != nil && uid != "" && uid != string(live.GetUID()):
		answer(w, http.StatusConflict, status(http.StatusConflict, metav1.StatusReasonConflict, "Precondition failed: UID", nil))
		return
	case live != nil && patch.GetResourceVersion() != "" && patch.GetResourceVersion() != live.GetResourceVersion():
		answer(w, http.StatusConflict, status(http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified", nil))
		return
	}
	wanted := map[string]any{}
	leaves("", patch.Object, wanted)
	for _, identity := range []string{"\x00apiVersion", "\x00kind", "\x00metadata\x00name", "\x00metadata\x00namespace", "\x00metadata\x00uid"} {
		if apply || identity == "\x00metadata\x00uid" {
			delete(wanted, identity)
		}
	}
	next := &unstructured.Unstructured{Object: map[string]any{}}
	if live != nil {
		next = live.DeepCopy()
	} else {
		next.Object = map[string]any{"apiVersion": patch.Object["apiVersion"], "kind": patch.Object["kind"]}
		next.SetName(patch.GetName())
		next.SetNamespace(patch.GetNamespace())
	}
	if apply {
		if conflict := a.own(path, manager, wanted, next, r.URL.Query().Get("force") == "true"); conflict != nil {
			answer(w, http.StatusConflict, conflict)
			return
		}
	}
	for leaf, value := range wanted {
		_ = unstructured.SetNestedField(next.Object, value, strings.Split(leaf, "\x00")[1:]...)
	}
	if r.URL.Query().Get("dryRun") == "" {
		a.store(path, next)
	}
	answer(w, http.StatusOK, next)
}

// own records what a manager applies and removes from the object what it no
// longer does; it returns the refusal if others own other values.
func (a *api) own(path, manager string, wanted map[string]any, next *unstructured.Unstructured, force bool) *metav1.Status {
	managers := a.applied[path]
	if managers == nil {
		managers = map[string]map[string]any{}
		a.applied[path] = managers
	}
	details := &metav1.StatusDetails{}
	for other, theirs := range managers {
		for leaf, value := range wanted {
			if owned, ok := theirs[leaf]; ok && other != manager && fmt.Sprint(owned) != fmt.Sprint(value) {
				if force {
					delete(theirs, leaf)
					continue
				}
				details.Causes = append(details.Causes, metav1.StatusCause{
					Type: metav1.CauseTypeFieldManagerConflict, Message: fmt.Sprintf("conflict with %q", other), Field: strings.ReplaceAll(leaf, "\x00", "."),
				})
			}
		}
	}
	if len(details.Causes) > 0 {
		return status(http.StatusConflict, metav1.StatusReasonConflict, "Apply failed with conflicts", details)
	}
	for leaf := range managers[manager] {
		stillOwned := false
		for other, theirs := range managers {
			_, theirsToo := theirs[leaf]
			stillOwned = stillOwned || other != manager && theirsToo
		}
		if _, still := wanted[leaf]; !still && !stillOwned {
			unstructured.RemoveNestedField(next.Object, strings.Split(leaf, "\x00")[1:]...)
		}
	}
	managers[manager] = maps.Clone(wanted)
	return nil
}

func (a *api) deleteObject(w http.ResponseWriter, r *http.Request) {
	var options metav1.DeleteOptions
	_ = json.NewDecoder(r.Body).Decode(&options)
	a.mu.Lock()
	defer a.mu.Unlock()
	o := a.objects[r.URL.Path]
	if o == nil {
		answer(w, http.StatusNotFound, notFound(r.URL.Path))
		return
	}
	if p := options.Preconditions; p != nil &&
		(p.UID != nil && *p.UID != o.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != o.GetResourceVersion()) {
		answer(w, http.StatusConflict, status(http.StatusConflict, metav1.StatusReasonConflict, "Precondition failed", nil))
		return
	}
	if len(o.GetFinalizers()) > 0 {
		now := metav1.Now()
		o.SetDeletionTimestamp(&now)
		a.store(r.URL.Path, o)
		answer(w, http.StatusOK, o)
		return
	}
	a.drop(r.URL.Path)
	answer(w, http.StatusOK, &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess})
}

// serviceProfile stands for kinds that the package does not know.
var serviceProfile = Kind{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles", Name: "ServiceProfile", Namespaced: true}

func manifest(kind Kind, namespace, name string, fields ...map[string]any) map[string]any {
	meta := map[string]any{"name": name}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	m := map[string]any{"apiVersion": kind.GVK().GroupVersion().String(), "kind": kind.Name, "metadata": meta}
	for _, more := range fields {
		for key, value := range more {
			if key == "metadata" {
				maps.Copy(meta, value.(map[string]any)) //nolint:forcetypeassert // Tests write it so.
				continue
			}
			m[key] = value
		}
	}
	return m
}

func wrap(content map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: content}
}
