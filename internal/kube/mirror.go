package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

const (
	// sharedFor is how long a list that nothing keeps current answers reads.
	// Long enough that a plan lists each kind once, short enough that an apply
	// sees what other providers did in the meantime.
	sharedFor = 30 * time.Second

	// lingerFor is how long a watch goes on after the last who needed it: an apply
	// waits for one thing after the other, and may do so hundreds of times.
	lingerFor = 30 * time.Second

	// relists is how many times a kind is listed again because of what this
	// process did to others before it is watched instead.
	relists = 2

	pageSize = 500

	// patience is how many times the limit of a request a watch may fail before
	// those who wait are told: longer than an API server takes to restart.
	patience = 4

	// watchFor is when the API server is asked to end a watch; a connection that
	// has died unnoticed is given up a little later.
	watchFor = 5 * time.Minute
)

// object is what mirrors hold: the Go type of the kind if the scheme has one,
// otherwise *unstructured.Unstructured.
type object interface {
	metav1.Object
	runtime.Object
}

// scope is what one LIST covers: all namespaces if namespace is "".
type scope struct {
	kind      Kind
	namespace string
}

func (s scope) String() string {
	if s.namespace == "" {
		return s.kind.Resource
	}
	return s.kind.Resource + " in namespace " + s.namespace
}

// mirror is the process's one copy of a scope. It is listed when first read and
// again when it may be out of date. A watch keeps it current while somebody
// awaits a change, and for a while after that.
//
// What a watch keeps current answers all reads. That it lags behind the cluster
// by moments is the same as having read moments earlier, with two exceptions,
// which are seen to: this process's own writes are folded in, or make it list
// again if their outcome is unknown; and what controllers make of them must be
// awaited by whoever depends on it, it is not there after a list either.
type mirror struct {
	scope
	cluster *Cluster
	loads   singleflight.Group

	mu       sync.Mutex
	objects  map[string]map[string]object // by namespace and name; read-only once stored
	version  string                       // resourceVersion that the objects are at least as new as
	loadedAt time.Time
	heardAt  time.Time // when the watch last said anything, or the list was made
	outdated notes
	arriving *notes // what happened since the LIST under way began, nil if there is none
	relisted int    // how often other writes made it list again
	listOnly bool   // a watch was refused
	run      *run   // the watch, nil if there is none
}

// notes are what a list may not contain: writes of this process, and events.
type notes struct {
	same  bool // to objects of this kind, with unknown outcome
	other bool // to objects of other kinds, which controllers may act upon
	folds []object
	// events are not of writes of this process alone: the watch goes on while a
	// list is made, and may be ahead of it when it arrives.
	events []news
}

// news is a change that a watch tells of.
type news struct {
	kind watch.EventType
	of   object
}

// run is one life of a watch.
type run struct {
	cancel    context.CancelFunc
	ready     chan struct{} // closed once the first list is there, or failed
	err       error         // why there is no list; set before ready is closed
	connected bool
	followers map[*follower]struct{}
	idle      *time.Timer // ends it; runs while there are no followers, nil before
}

// follower is told about changes in a namespace, or in all if it is "".
type follower struct {
	namespace string
	changed   chan struct{}
	failed    chan error
}

func (f *follower) wake() {
	select {
	case f.changed <- struct{}{}:
	default: // A change is already waiting to be seen.
	}
}

// listedPerNamespace are kinds of which other namespaces hold too much that
// nobody asked for.
func listedPerNamespace(kind Kind) bool { return kind == ConfigMap || kind == Event }

// mirror returns the mirror that answers for a kind in a namespace.
func (c *Cluster) mirror(kind Kind, namespace string) *mirror {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := scope{kind: kind}
	if kind.Namespaced && (c.narrowed[kind] || listedPerNamespace(kind)) {
		key.namespace = namespace
	}
	m, ok := c.mirrors[key]
	if !ok {
		m = &mirror{scope: key, cluster: c}
		c.mirrors[key] = m
	}
	return m
}

// withMirror runs a use of the mirror for a kind in a namespace. If objects of
// the kind may not be listed in all namespaces, it is run again with the mirror
// of the one namespace.
func (c *Cluster) withMirror(kind Kind, namespace string, use func(*mirror) error) error {
	if kind == Secret {
		return errors.New("secrets are read one by one, never listed")
	}
	m := c.mirror(kind, namespace)
	err := use(m)
	if !apierrors.IsForbidden(err) || !kind.Namespaced || namespace == "" || m.namespace != "" {
		return err
	}
	c.mu.Lock()
	c.narrowed[kind] = true
	c.mu.Unlock()
	return use(c.mirror(kind, namespace))
}

// note records a write of this process. Object is the state after it, or nil if
// that is unknown.
func (m *mirror) note(same bool, written *unstructured.Unstructured) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !same {
		m.outdated.other = true
		if m.arriving != nil {
			m.arriving.other = true
		}
		return
	}
	var folded object
	if written != nil {
		if m.namespace != "" && m.namespace != written.GetNamespace() {
			return
		}
		folded, _ = m.cluster.typed(m.kind, written) // What cannot be decoded here fails in the list.
	}
	if folded == nil {
		m.outdated.same = true
		if m.arriving != nil {
			m.arriving.same = true
		}
		return
	}
	if m.arriving != nil {
		m.arriving.folds = append(m.arriving.folds, folded)
	}
	m.fold(folded)
}

// fold takes in the state of an object after a write. The caller holds the lock.
func (m *mirror) fold(o object) {
	if m.loadedAt.IsZero() || m.version != "" && !newer(o.GetResourceVersion(), m.version) {
		return // Already seen, and maybe deleted again since.
	}
	m.put(o)
}

// learn takes in an object that a list did not have yet.
func (m *mirror) learn(o object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fold(o)
}

func newer(version, than string) bool {
	order, err := resourceversion.CompareResourceVersion(version, than)
	return err != nil || order > 0
}

// put stores an object unless a newer state of it is there. The caller holds
// the lock.
func (m *mirror) put(o object) {
	names := m.objects[o.GetNamespace()]
	if names == nil {
		names = map[string]object{}
		m.objects[o.GetNamespace()] = names
	}
	if known, ok := names[o.GetName()]; ok && !newer(o.GetResourceVersion(), known.GetResourceVersion()) {
		return
	}
	names[o.GetName()] = trim(o)
	m.tell(o.GetNamespace())
}

// wake makes those who await changes in a namespace look again.
func (m *mirror) wake(namespace string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tell(namespace)
}

// tell wakes those who await changes in a namespace. The caller holds the lock.
func (m *mirror) tell(namespace string) {
	if m.run == nil {
		return
	}
	for f := range m.run.followers {
		if f.namespace == "" || namespace == "" || f.namespace == namespace {
			f.wake()
		}
	}
}

// trim drops what nobody reads of kinds that there are many of.
func trim(o object) object {
	switch o := o.(type) {
	case *corev1.Pod:
		o.ManagedFields = nil
	case *metav1.PartialObjectMetadata:
		o.ManagedFields = nil
	case *appsv1.ReplicaSet: // From what does not know how to answer with metadata alone.
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: o.Name, Namespace: o.Namespace, UID: o.UID, ResourceVersion: o.ResourceVersion,
			Labels: o.Labels, Annotations: o.Annotations, OwnerReferences: o.OwnerReferences,
		}}
	}
	return o
}

// metadataOnly are kinds of which mirrors hold no more than the metadata: only
// the way from a pod to its Deployment leads through ReplicaSets, of which there
// are many, each with a whole pod template.
func metadataOnly(kind Kind) bool { return kind == ReplicaSet }

// typed converts an object to the form in which mirrors hold its kind.
func (c *Cluster) typed(kind Kind, from *unstructured.Unstructured) (object, error) {
	if !c.scheme.Recognizes(kind.GVK()) {
		return from.DeepCopy(), nil
	}
	empty, err := c.scheme.New(kind.GVK())
	if err != nil {
		return nil, fmt.Errorf("make a %s: %w", kind, err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(from.Object, empty); err != nil {
		return nil, fmt.Errorf("decode %s %s: %w", kind, from.GetName(), err)
	}
	return asObject(empty)
}

func asObject(from runtime.Object) (object, error) {
	o, ok := from.(object)
	if !ok {
		return nil, fmt.Errorf("the answer contains a %T, which is not an object", from)
	}
	return o, nil
}

// current makes sure that the mirror holds everything that this process wrote
// before the call.
func (m *mirror) current(ctx context.Context) error {
	// The first load may have begun before the call; a second one has not.
	for range 2 {
		usable, watched := m.state(ctx)
		if usable {
			return nil
		}
		var err error
		if watched != nil {
			err = watched.wait(ctx, m.scope)
		} else {
			err = m.load(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// state reports whether the mirror answers reads as it is. If it does not, and
// did so too often, it begins to watch.
func (m *mirror) state(ctx context.Context) (usable bool, watched *run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.loadedAt.IsZero() || m.outdated.same:
		return false, nil
	case m.trusted():
		m.linger()
		return true, nil
	case !m.outdated.other:
		return time.Since(m.loadedAt) < sharedFor, nil
	case m.run != nil:
		return false, nil
	}
	m.relisted++
	if m.relisted > relists && !m.listOnly {
		watched = m.begin(ctx)
		m.linger()
	}
	return false, watched
}

// trusted reports whether a watch keeps the mirror current. One that nobody
// follows must have said something lately: it may be dead without a word, and
// what depends on it is done once it has answered. The caller holds the lock.
func (m *mirror) trusted() bool {
	return m.run != nil && m.run.connected && (len(m.run.followers) > 0 || time.Since(m.heardAt) < sharedFor)
}

// load lists the scope, once for all who ask at the same time.
func (m *mirror) load(ctx context.Context) error {
	done := m.loads.DoChan("", func() (any, error) {
		// Who asked first may leave; others still wait for the answer. Each page
		// has its own deadline.
		return nil, m.list(context.WithoutCancel(ctx))
	})
	select {
	case <-ctx.Done():
		return fmt.Errorf("list %s: %w", m.scope, context.Cause(ctx))
	case result := <-done:
		return result.Err
	}
}

func (m *mirror) list(ctx context.Context) error {
	m.mu.Lock()
	m.arriving = &notes{}
	m.mu.Unlock()

	objects, version, err := m.pages(ctx, pageSize)
	if apierrors.IsResourceExpired(err) {
		// The snapshot that the pages are cut from is gone: take it in one piece.
		objects, version, err = m.pages(ctx, 0)
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	arrived := *m.arriving
	m.arriving = nil
	if err != nil {
		return err
	}
	m.objects, m.version, m.loadedAt = objects, version, time.Now()
	m.heardAt, m.outdated = m.loadedAt, notes{same: arrived.same, other: arrived.other}
	for _, e := range arrived.events {
		m.take(e)
	}
	for _, o := range arrived.folds {
		m.fold(o)
	}
	m.tell("")
	return nil
}

func (m *mirror) pages(ctx context.Context, size int64) (objects map[string]map[string]object, version string, err error) {
	objects = map[string]map[string]object{}
	options := metav1.ListOptions{Limit: size}
	for {
		page, err := m.cluster.page(ctx, m.scope, options)
		if err != nil {
			return nil, "", err
		}
		err = meta.EachListItem(page, func(item runtime.Object) error {
			o, err := asObject(item)
			if err != nil {
				return err
			}
			if objects[o.GetNamespace()] == nil {
				objects[o.GetNamespace()] = map[string]object{}
			}
			objects[o.GetNamespace()][o.GetName()] = trim(o)
			return nil
		})
		if err != nil {
			return nil, "", fmt.Errorf("list %s: %w", m.scope, err)
		}
		list, err := meta.ListAccessor(page)
		if err != nil {
			return nil, "", fmt.Errorf("list %s: %w", m.scope, err)
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return objects, list.GetResourceVersion(), nil
		}
	}
}

// page reads a list, or one page of it.
func (c *Cluster) page(ctx context.Context, of scope, options metav1.ListOptions) (page runtime.Object, err error) {
	err = c.call(ctx, "list", of, func(ctx context.Context) error {
		page, err = c.list(ctx, of, options)
		return err
	})
	return page, err
}

// list makes one LIST request.
func (c *Cluster) list(ctx context.Context, of scope, options metav1.ListOptions) (runtime.Object, error) {
	var list runtime.Object
	if c.scheme.Recognizes(of.kind.GVK()) {
		var err error
		if list, err = c.listing(of, options).Do(ctx).Get(); err != nil {
			return nil, err
		}
	} else {
		untyped, err := c.resource(of.kind, of.namespace).List(ctx, options)
		if err != nil {
			return nil, err
		}
		list = untyped
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	if accessor.GetResourceVersion() == "" {
		// Not from an API server; an empty list would mean that all is gone.
		return nil, errors.New("the answer is not a list of objects: it has no resourceVersion")
	}
	return list, nil
}

func (c *Cluster) listing(of scope, options metav1.ListOptions) *rest.Request {
	prefix := []string{"apis", of.kind.Group, of.kind.Version}
	if of.kind.Group == "" {
		prefix = []string{"api", of.kind.Version}
	}
	request := c.lists.Get().AbsPath(prefix...).
		NamespaceIfScoped(of.namespace, of.namespace != "").
		Resource(of.kind.Resource).
		SpecificallyVersionedParams(&options, c.params, schema.GroupVersion{Version: "v1"})
	if metadataOnly(of.kind) {
		as := "PartialObjectMetadataList"
		if options.Watch {
			as = "PartialObjectMetadata"
		}
		request.SetHeader("Accept", fmt.Sprintf("%[1]s;as=%[3]s;g=meta.k8s.io;v=v1,%[2]s;as=%[3]s;g=meta.k8s.io;v=v1,%[2]s",
			runtime.ContentTypeProtobuf, runtime.ContentTypeJSON, as))
	}
	return request
}

// follow begins to tell a follower about changes. The mirror is current when it
// returns, and stays so until release is called or the follower is told of a
// failure.
func (m *mirror) follow(ctx context.Context, f *follower) (release func(), err error) {
	m.mu.Lock()
	if m.run == nil {
		m.begin(ctx)
	} else if m.run.connected && !m.trusted() {
		m.forget()
	}
	r := m.run
	r.followers[f] = struct{}{}
	m.linger()
	m.mu.Unlock()

	release = func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(r.followers, f)
		if m.run == r {
			m.linger()
		}
	}
	if err := r.wait(ctx, m.scope); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// forget makes the next read list again. The caller holds the lock.
func (m *mirror) forget() {
	m.outdated.same = true
	if m.arriving != nil {
		m.arriving.same = true
	}
}

// begin begins to watch. The caller holds the lock, and has seen that there is
// no watch.
func (m *mirror) begin(ctx context.Context) *run {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.run = &run{cancel: cancel, ready: make(chan struct{}), followers: map[*follower]struct{}{}}
	// What was listed before may be long out of date.
	m.forget()
	go m.keepCurrent(background, m.run)
	return m.run
}

// wait waits for the first list of a run.
func (r *run) wait(ctx context.Context, of scope) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("list %s: %w", of, context.Cause(ctx))
	case <-r.ready:
		return r.err
	}
}

// linger lets the watch end some time from now, unless it has followers. The
// caller holds the lock.
func (m *mirror) linger() {
	r := m.run
	switch {
	case r == nil:
	case len(r.followers) > 0:
		if r.idle != nil {
			r.idle.Stop()
		}
	case r.idle != nil:
		r.idle.Reset(m.cluster.linger)
	default:
		r.idle = time.AfterFunc(m.cluster.linger, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if len(r.followers) == 0 {
				m.end(r)
			}
		})
	}
}

// end ends a run. The caller holds the lock.
func (m *mirror) end(r *run) {
	r.cancel()
	r.connected = false
	if r.idle != nil {
		r.idle.Stop()
	}
	if m.run == r {
		m.run = nil
	}
}

// keepCurrent lists, then watches until the context ends. What cannot be helped
// by trying again, and what does not get better in good time, ends it and is told
// to the followers.
func (m *mirror) keepCurrent(ctx context.Context, r *run) {
	err := m.current(ctx)
	r.err = err
	if err != nil {
		m.mu.Lock()
		m.end(r)
		m.mu.Unlock()
		close(r.ready)
		return
	}
	close(r.ready)

	newPause := func() wait.Backoff {
		return wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 6, Cap: 5 * time.Second}
	}
	pause := newPause()
	healthy := time.Now()
	for {
		useful, err := m.watch(ctx, r)
		if ctx.Err() != nil || m.abandoned(r, err) {
			return
		}
		if expired(err) {
			// Too much has happened since: begin again from a list.
			m.mu.Lock()
			m.outdated.same = true
			m.mu.Unlock()
			if err = m.current(ctx); err == nil {
				useful = true
			}
		}
		if useful {
			healthy = time.Now()
			pause = newPause()
		} else if err == nil {
			err = fmt.Errorf("watch %s: %w", m.scope, errWatchEnds)
		}
		if hopeless(err) || time.Since(healthy) > patience*m.cluster.timeout {
			m.mu.Lock()
			for f := range r.followers {
				f.failed <- err
			}
			m.end(r)
			m.mu.Unlock()
			return
		}
		timer := time.NewTimer(pause.Step())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// abandoned ends a run whose connection has ended while nobody follows it:
// reads list again, and a watch begins anew with the next who needs it.
func (m *mirror) abandoned(r *run, err error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(r.followers) > 0 {
		return false
	}
	m.listOnly = hopeless(err) && !expired(err)
	m.end(r)
	return true
}

// hopeless reports whether a watch that ended so cannot be helped by trying
// again.
func hopeless(err error) bool {
	return err != nil && !transient(err) && !errors.Is(err, errWatchEnds)
}

// errWatchEnds is a server that answers watches but sends nothing.
var errWatchEnds = errors.New("the server ends each watch at once")

func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// watch follows changes over one connection until the connection ends, which is
// no error by itself. It returns whether the connection was of any use.
func (m *mirror) watch(ctx context.Context, r *run) (useful bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchFor+m.cluster.timeout)
	defer cancel()
	m.mu.Lock()
	seconds := int64(watchFor / time.Second)
	options := metav1.ListOptions{Watch: true, AllowWatchBookmarks: true, ResourceVersion: m.version, TimeoutSeconds: &seconds}
	m.mu.Unlock()

	// client-go retries to connect for minutes, and then calls it an empty watch.
	connecting := time.AfterFunc(m.cluster.timeout, cancel)
	last := &attempt{}
	ctx = context.WithValue(ctx, attemptKey{}, last)
	var events watch.Interface
	if m.cluster.scheme.Recognizes(m.kind.GVK()) {
		events, err = m.cluster.listing(m.scope, options).Watch(ctx)
	} else {
		events, err = m.cluster.resource(m.kind, m.namespace).Watch(ctx, options)
	}
	if !connecting.Stop() {
		err = last.timedOut(m.cluster.timeout)
	}
	if err != nil {
		return false, fmt.Errorf("watch %s: %w", m.scope, err)
	}
	defer events.Stop()
	m.setConnected(r, true)
	defer m.setConnected(r, false)

	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return true, nil
		case event, open := <-events.ResultChan():
			if !open {
				return useful || time.Since(began) > m.cluster.timeout, nil
			}
			if event.Type == watch.Error {
				return useful, fmt.Errorf("watch %s: %w", m.scope, apierrors.FromObject(event.Object))
			}
			changed, err := asObject(event.Object)
			if err != nil {
				return useful, fmt.Errorf("watch %s: %w", m.scope, err)
			}
			useful = true
			m.see(event.Type, changed)
		}
	}
}

func (m *mirror) setConnected(r *run, connected bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.connected = connected && m.run == r
}

// see takes in what the watch tells, and keeps it for a list that is under way.
func (m *mirror) see(kind watch.EventType, of object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heardAt = time.Now()
	e := news{kind, of}
	if m.arriving != nil {
		m.arriving.events = append(m.arriving.events, e)
	}
	m.take(e)
}

// take makes the mirror what it is after an event. The caller holds the lock.
func (m *mirror) take(e news) {
	if !newer(e.of.GetResourceVersion(), m.version) {
		return // From before a list that was made meanwhile.
	}
	m.version = e.of.GetResourceVersion()
	switch e.kind {
	case watch.Added, watch.Modified:
		m.put(e.of)
	case watch.Deleted:
		names := m.objects[e.of.GetNamespace()]
		known, ok := names[e.of.GetName()]
		if ok && known.GetResourceVersion() != m.version && !newer(m.version, known.GetResourceVersion()) {
			return // This process has made it anew meanwhile.
		}
		delete(names, e.of.GetName())
		m.tell(e.of.GetNamespace())
	case watch.Bookmark, watch.Error: // Nothing changed.
	}
}

// find returns the object by that name, or nil.
func (m *mirror) find(namespace, name string) object {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects[namespace][name]
}

// all returns the objects of a namespace, or of all if it is "", in order of
// namespace and name.
func (m *mirror) all(namespace string) []object {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []object
	for in, names := range m.objects {
		if namespace != "" && in != namespace {
			continue
		}
		for _, o := range names {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b object) int {
		if order := strings.Compare(a.GetNamespace(), b.GetNamespace()); order != 0 {
			return order
		}
		return strings.Compare(a.GetName(), b.GetName())
	})
	return found
}
