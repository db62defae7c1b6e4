package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// The judge of this file shares no code with what it judges: it knows nothing of
// meshes and rotations, only certificates and the pods of a watch.

// A trustWorld is what the meshed pods of a cluster present and trust that may
// talk to each other at an instant.
type trustWorld struct {
	pods     map[types.UID]*provenPod
	verdicts map[verdictKey]verdict
	pairs    int
}

// A provenPod is the proxy of a pod: what it presents, and whom it trusts.
type provenPod struct {
	name         string
	identity     *testcluster.Identity
	chain, roots fingerprint
}

type fingerprint [sha256.Size]byte

func fingerprintOf(certs []*x509.Certificate) fingerprint {
	hash := sha256.New()
	for _, cert := range certs {
		hash.Write(cert.Raw)
	}
	return fingerprint(hash.Sum(nil))
}

type verdictKey struct{ chain, roots fingerprint }

// A verdict holds until a certificate that it is about begins or ends.
type verdict struct {
	err         error
	from, until time.Time
}

func newTrustWorld() *trustWorld {
	return &trustWorld{pods: map[types.UID]*provenPod{}, verdicts: map[verdictKey]verdict{}}
}

// observe takes in one event of a watch on pods. Pods take part until they are
// gone, also when they are being deleted, or until their containers have ended.
func (w *trustWorld) observe(event watch.Event) error {
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		return fmt.Errorf("the watch on pods broke off: %s %v", event.Type, event.Object)
	}
	if event.Type == watch.Deleted || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		delete(w.pods, pod.UID)
		return nil
	}
	identity, err := testcluster.ProxyIdentity(pod)
	if err != nil || identity == nil {
		return err
	}
	w.pods[pod.UID] = &provenPod{
		name: pod.Namespace + "/" + pod.Name, identity: identity,
		chain: fingerprintOf(identity.Chain), roots: fingerprintOf(identity.Roots),
	}
	return nil
}

// violations are the pairs of pods of which one does not accept the other.
func (w *trustWorld) violations(at time.Time) []string {
	var found []string
	for _, presenter := range w.pods {
		for _, verifier := range w.pods {
			w.pairs++
			key := verdictKey{presenter.chain, verifier.roots}
			v, known := w.verdicts[key]
			if !known || at.Before(v.from) || !at.Before(v.until) {
				v = judge(verifier.identity, presenter.identity, at)
				w.verdicts[key] = v
			}
			if v.err != nil {
				found = append(found, fmt.Sprintf("%s does not accept %s: %v; it trusts %s and is presented %s",
					verifier.name, presenter.name, v.err, describe(verifier.identity.Roots), describe(presenter.identity.Chain)))
			}
		}
	}
	slices.Sort(found)
	return found
}

// judge says whether one accepts the other, and between which instants.
func judge(verifier, presenter *testcluster.Identity, at time.Time) verdict {
	v := verdict{err: verifier.Trusts(presenter, at), until: at.Add(time.Hour)}
	for _, cert := range slices.Concat(presenter.Chain, verifier.Roots) {
		for _, turn := range []time.Time{cert.NotBefore, cert.NotAfter.Add(time.Nanosecond)} {
			if turn.After(at) && turn.Before(v.until) {
				v.until = turn
			}
			if !turn.After(at) && turn.After(v.from) {
				v.from = turn
			}
		}
	}
	return v
}

func describe(certs []*x509.Certificate) string {
	var all []string
	for _, cert := range certs {
		all = append(all, fmt.Sprintf("%.8x by %q until %s", sha256.Sum256(cert.Raw), cert.Issuer.CommonName, cert.NotAfter.Format(time.TimeOnly)))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// A trustWatch looks at the pods of a cluster at every event and takes down when
// two of them did not accept each other.
type trustWatch struct {
	cluster *testcluster.Cluster

	mu     sync.Mutex
	world  *trustWorld
	events int
	seen   map[types.UID]bool
	broken []string
}

// watchTrust judges from now on until the test ends.
func watchTrust(t *testing.T, cluster *testcluster.Cluster) *trustWatch {
	t.Helper()
	pods := cluster.Client().CoreV1().Pods("")
	now, err := pods.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &trustWatch{cluster: cluster, world: newTrustWorld(), seen: map[types.UID]bool{}}
	for _, pod := range now.Items {
		w.take(watch.Event{Type: watch.Added, Object: &pod})
	}
	// It goes on from the last version whenever the connection ends. A version that
	// is not there any more is an event of its own, and no Pod.
	events, err := watchtools.NewRetryWatcherWithContext(t.Context(), now.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return pods.Watch(ctx, options)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for event := range events.ResultChan() {
			w.take(event)
		}
	})
	t.Cleanup(func() {
		events.Stop()
		reading.Wait()
	})
	return w
}

func (w *trustWatch) take(event watch.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events++
	if pod, ok := event.Object.(*corev1.Pod); ok {
		w.seen[pod.UID] = true
	}
	at := time.Now()
	if err := w.world.observe(event); err != nil {
		w.broken = append(w.broken, err.Error())
		return
	}
	for _, violation := range w.world.violations(at) {
		w.broken = append(w.broken, fmt.Sprintf("%s, event %d: %s", at.Format(time.TimeOnly), w.events, violation))
	}
}

// expectUnbroken wants that all pods have accepted each other at every event so
// far. It has made a pod whose event is the last of them.
func (w *trustWatch) expectUnbroken(t *testing.T) {
	t.Helper()
	pods := w.cluster.Client().CoreV1().Pods(metav1.NamespaceDefault)
	last, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "last-"},
		Spec: corev1.PodSpec{
			SchedulingGates: []corev1.PodSchedulingGate{{Name: "example.com/never"}},
			Containers:      []corev1.Container{{Name: "main", Image: "registry.invalid/last:1"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the event of the last pod", func(context.Context) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.seen[last.UID]
	})
	if err := pods.Delete(t.Context(), last.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("%d pods in the end, %d events, %d pairs", len(w.world.pods), w.events, w.world.pairs)
	if len(w.world.pods) < 2 {
		t.Error("there are no two pods with an identity")
	}
	const enough = 5
	for _, violation := range w.broken[:min(len(w.broken), enough)] {
		t.Error(violation)
	}
	if more := len(w.broken) - enough; more > 0 {
		t.Errorf("and %d more like these", more)
	}
	if len(w.broken) > 0 {
		t.FailNow()
	}
}

// expectAnchor wants every meshed pod to trust one anchor and no other, and to
// present what leads to it.
func (w *trustWatch) expectAnchor(t *testing.T, anchorPEM string) {
	t.Helper()
	block, _ := pem.Decode([]byte(anchorPEM))
	if block == nil {
		t.Fatalf("no PEM: %q", anchorPEM)
	}
	anchor, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	w.expectUnbroken(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pod := range w.world.pods {
		if len(pod.identity.Roots) != 1 || !pod.identity.Roots[0].Equal(anchor) {
			t.Errorf("%s trusts %s, want %s", pod.name, describe(pod.identity.Roots), describe([]*x509.Certificate{anchor}))
		}
		if err := (&testcluster.Identity{Roots: []*x509.Certificate{anchor}}).Trusts(pod.identity, time.Now()); err != nil {
			t.Errorf("%s presents %s, which does not lead to %s: %v", pod.name, describe(pod.identity.Chain), describe([]*x509.Certificate{anchor}), err)
		}
	}
}

// authority is a certificate authority that knows only the standard library.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// sign makes a certificate below an authority, or one that signs itself.
func (a *authority) sign(t *testing.T, name string, ca bool, until time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: until,
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	parent := &authority{key: key, cert: template}
	if a != nil {
		parent = a
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key: key, cert: cert}
}

func (a *authority) certPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// keyPEM is the key as step writes it.
func (a *authority) keyPEM(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// TestTrustWatch shows the judge what it has to find.
func TestTrustWatch(t *testing.T) {
	t.Parallel()
	year := time.Now().Add(8760 * time.Hour)
	former := (*authority)(nil).sign(t, "former", true, year)
	next := (*authority)(nil).sign(t, "next", true, year)
	pod := func(uid string, issuer *authority, until time.Time, roots ...*authority) *corev1.Pod {
		between := issuer.sign(t, "issuer", true, year)
		identity := map[string]string{"chain": between.sign(t, uid, false, until).certPEM() + between.certPEM()}
		for _, root := range roots {
			identity["roots"] += root.certPEM()
		}
		value, err := json.Marshal(identity)
		if err != nil {
			t.Fatal(err)
		}
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "app", Name: uid, UID: types.UID(uid), Annotations: map[string]string{"devcluster.aksmesh.io/identity": string(value)},
		}}
	}
	soon := time.Now().Add(time.Hour)
	deleted := pod("b", next, year, next)
	deleted.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	ended := pod("b", next, year, next)
	ended.Status.Phase = corev1.PodSucceeded
	for _, test := range []struct {
		name   string
		events []watch.Event
		at     time.Time
		want   []string // pairs that do not accept each other, in order
	}{
		{name: "one anchor", events: []watch.Event{{Type: watch.Added, Object: pod("a", former, year, former)}, {Type: watch.Added, Object: pod("b", former, year, former)}}},
		{name: "the next anchor before its time", events: []watch.Event{{Type: watch.Added, Object: pod("a", former, year, former)}, {Type: watch.Added, Object: pod("b", next, year, former, next)}}, want: []string{"app/a does not accept app/b"}},
		{name: "the former anchor beyond its time", events: []watch.Event{{Type: watch.Added, Object: pod("a", former, year, former, next)}, {Type: watch.Added, Object: pod("b", next, year, next)}}, want: []string{"app/b does not accept app/a"}},
		{name: "both anchors", events: []watch.Event{{Type: watch.Added, Object: pod("a", former, year, former, next)}, {Type: watch.Added, Object: pod("b", next, year, former, next)}}},
		{name: "on its way out", events: []watch.Event{{Type: watch.Added, Object: pod("a", former, year, former)}, {Type: watch.Modified, Object: deleted}}, want: []string{"app/a does not accept app/b", "app/b does not accept app/a"}},
		{name: "ended", events: []watch.Event{{Type: watch.Added, Object: pod("a", former, year, former)}, {Type: watch.Modified, Object: ended}}},
		{name: "gone", events: []watch.Event{{Type: watch.Added, Object: pod("b", next, year, next)}, {Type: watch.Added, Object: pod("a", former, year, former)}, {Type: watch.Deleted, Object: deleted}}},
		{name: "expired", events: []watch.Event{{Type: watch.Added, Object: pod("a", former, year, former)}, {Type: watch.Added, Object: pod("b", former, soon, former)}}, at: soon.Add(time.Minute), want: []string{"app/a does not accept app/b", "app/b does not accept app/b"}},
	} {
		world := newTrustWorld()
		for _, event := range test.events {
			if err := world.observe(event); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		now := time.Now()
		found := world.violations(now)
		if !test.at.IsZero() {
			if len(found) > 0 {
				t.Errorf("%s: %v before its time", test.name, found)
			}
			found = world.violations(test.at)
		}
		if len(found) != len(test.want) {
			t.Errorf("%s: found %v, want %v", test.name, found, test.want)
			continue
		}
		for i, want := range test.want {
			if !strings.HasPrefix(found[i], want+":") {
				t.Errorf("%s: found %s, want %s", test.name, found[i], want)
			}
		}
	}
	if err := newTrustWorld().observe(watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: metav1.StatusReasonExpired}}); err == nil {
		t.Error("a watch that has lost events is no error")
	}
}
