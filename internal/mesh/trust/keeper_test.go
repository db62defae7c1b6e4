package trust_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki/rotation"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

func TestMain(m *testing.M) { os.Exit(new(testcluster.Shared).Main(m)) }

// A fixture is a mesh with a few meshed workloads.
type fixture struct {
	embedded   *testcluster.Cluster
	cluster    *kube.Cluster
	ref        trust.IssuerRef
	namespaces []string
}

func newFixture(t *testing.T, name string) *fixture {
	t.Helper()
	embedded := testcluster.New(t, testcluster.Options{Nodes: 1})
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{embedded.Kubeconfig()}}, "trust-test")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{embedded: embedded, cluster: cluster, ref: trust.IssuerRef{Mesh: name, Namespace: trust.ControlPlaneNamespace(name)}}
	return f
}

// install installs the mesh, whose issuer is there, and meshes two Deployments.
func (f *fixture) install(t *testing.T) {
	t.Helper()
	releases, err := helm.NewReleases(f.cluster, helm.ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	charts := install.Charts{
		Cluster: f.cluster, Releases: releases,
		Library: helm.NewLibrary(helm.LibraryOptions{CacheDir: filepath.Join(t.TempDir(), "charts")}),
	}
	repository := f.embedded.Charts().Repository
	mark := func(n *corev1.Namespace) { n.Labels["istio-injection"] = "enabled" }
	if f.ref.Mesh == "linkerd" {
		mark = func(n *corev1.Namespace) { n.Annotations = map[string]string{"linkerd.io/inject": "enabled"} }
		installer := linkerd.Installer{Charts: charts}
		prepared, err := installer.Prepare(t.Context(), linkerd.Specification{Namespace: f.ref.Namespace, Repository: repository, Version: "2026.8.3", Now: time.Now()})
		if err == nil {
			err = installer.Apply(t.Context(), prepared)
		}
		if err != nil {
			t.Fatal(err)
		}
	} else {
		installer := istio.Installer{Charts: charts}
		prepared, err := installer.Prepare(t.Context(), istio.Specification{
			Plane: istio.Plane{Namespace: f.ref.Namespace}, Repository: repository, Version: "1.31.0", Profile: istio.ProfileMinimal, PluggedCA: true, Now: time.Now(),
		}, nil)
		if err == nil {
			err = installer.Apply(t.Context(), prepared, false)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		name := f.embedded.Namespace(t)
		namespace, err := f.embedded.Client().CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		mark(namespace)
		if _, err := f.embedded.Client().CoreV1().Namespaces().Update(t.Context(), namespace, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		f.embedded.CreateDeployment(t, name, "web", 2)
		f.namespaces = append(f.namespaces, name)
		f.await(t, "pods of "+name, func() bool { return len(f.pods(t, name)) == 2 })
	}
}

func (f *fixture) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	err := f.cluster.Await(t.Context(), "", []kube.Kind{kube.Pod}, func(context.Context) (string, error) {
		if done() {
			return "", nil
		}
		return what, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// pods are the running pods of a namespace by UID.
func (f *fixture) pods(t *testing.T, namespace string) map[types.UID]*corev1.Pod {
	t.Helper()
	list, err := f.embedded.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	running := map[types.UID]*corev1.Pod{}
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			running[pod.UID] = &pod
		}
	}
	return running
}

// all are the meshed pods of both namespaces by UID.
func (f *fixture) all(t *testing.T) []types.UID {
	t.Helper()
	var uids []types.UID
	for _, namespace := range f.namespaces {
		for uid := range f.pods(t, namespace) {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	return uids
}

// addAnchor adds an anchor to what is published, as by hand.
func (f *fixture) addAnchor(t *testing.T, anchor *pki.KeyPair) {
	t.Helper()
	added := "\n" + string(anchor.CertificatePEM())
	core := f.embedded.Client().CoreV1()
	if f.ref.Mesh == "linkerd" {
		roots, err := core.ConfigMaps(f.ref.Namespace).Get(t.Context(), linkerd.TrustRootsRef(f.ref.Namespace).Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		roots.Data[linkerd.TrustRootsKey] += added
		if _, err := core.ConfigMaps(f.ref.Namespace).Update(t.Context(), roots, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		return
	}
	secret, err := core.Secrets(f.ref.Namespace).Get(t.Context(), istio.CACertsSecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.Data["root-cert.pem"] = append(secret.Data["root-cert.pem"], added...)
	if _, err := core.Secrets(f.ref.Namespace).Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func newAnchor(t *testing.T, name string, now time.Time, validity time.Duration) *pki.KeyPair {
	t.Helper()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Subject: pki.Subject{CommonName: name}, Now: now, Validity: validity})
	if err != nil {
		t.Fatal(err)
	}
	return anchor
}

// keeper wants an anchor and no other.
func (f *fixture) keeper(t *testing.T, anchor *pki.KeyPair, complete bool, now time.Time) trust.Keeper {
	t.Helper()
	bundle := pki.NewBundle(anchor.Certificate())
	signer, err := trust.SigningKey(anchor.Signer(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	return trust.Keeper{
		Cluster: f.cluster, Ref: f.ref, Wanted: bundle, Signer: signer, Complete: complete,
		Options: pki.AuthorityOptions{Now: now}, Early: pki.DefaultEarlyRenewal,
		Log: func(message string, fields map[string]any) { t.Log(message, fields) },
	}
}

func keep(t *testing.T, k trust.Keeper, renew bool) trust.Standing {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	standing, err := k.Keep(ctx, renew)
	if err != nil {
		t.Fatal(err)
	}
	return standing
}

// settled wants nothing to be left to do, and an issuer below the anchor.
func settled(t *testing.T, k trust.Keeper) {
	t.Helper()
	standing, err := k.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(standing.Stages) > 0 || standing.Renewal != "" || standing.Next.Step != rotation.Done {
		t.Errorf("stages %v, renewal %q, next %+v; want nothing to do", standing.Stages, standing.Renewal, standing.Next)
	}
	if _, err := k.Wanted.VerifyChain(standing.Issuer.Chain(), k.Options.Now); err != nil {
		t.Error(err)
	}
	if got, want := standing.Published.Fingerprints(), k.Wanted.Fingerprints(); !slices.Equal(got, want) {
		t.Errorf("published are %v, want %v", got, want)
	}
}

func TestAccKeeper(t *testing.T) {
	// Certificates made so much later are valid now.
	const short = pki.Backdate - 10*time.Second
	for _, name := range trust.Meshes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, name)
			now := time.Now()
			first, second := newAnchor(t, "first", now, 0), newAnchor(t, "second", now, 0)
			k := f.keeper(t, first, false, now)
			if _, err := k.Look(t.Context()); !errors.Is(err, kube.ErrNotFound) {
				t.Errorf("an issuer that is not there: got %v", err)
			}
			keep(t, k, false)
			f.install(t)
			settled(t, k)

			before := f.all(t)
			issuer := keep(t, k, true).Issuer
			settled(t, k)
			if again := keep(t, k, false).Issuer; !again.Certificate().Equal(issuer.Certificate()) {
				t.Error("an issuer was renewed that is not due")
			}
			if after := f.all(t); !slices.Equal(before, after) {
				t.Errorf("the renewal of the issuer has restarted pods: %v, then %v", before, after)
			}

			// Somebody else adds an anchor: it goes again, once and for all.
			f.addAnchor(t, newAnchor(t, "foreign", now, 0))
			k.Complete = true
			keep(t, k, false)
			settled(t, k)

			before = f.all(t)
			k = f.keeper(t, second, true, now)
			keep(t, k, false)
			settled(t, k)
			for _, uid := range f.all(t) {
				if slices.Contains(before, uid) {
					t.Errorf("pod %s is from before the rotation", uid)
				}
			}

			// A third anchor, one stage at a time. The clocks of the control planes are
			// real, so it has to be one that ends soon, but not before it is in place.
			now = time.Now()
			k = f.keeper(t, newAnchor(t, "third", now, short), false, now)
			var stages []rotation.Stage
			for range 10 {
				standing, err := k.Look(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(standing.Stages) == 0 {
					break
				}
				if standing.WaitsFor != "" {
					t.Log(standing.WaitsFor)
					break
				}
				stages = append(stages, standing.Stages[0])
				keep(t, k, false)
			}
			want := []rotation.Stage{rotation.Spread, rotation.Teach, rotation.Switch}
			if name == "istio" {
				want = want[:1] // Its proxies learn of the anchor by themselves.
			}
			if !slices.Equal(stages, want) {
				t.Errorf("stages one at a time are\n%v, want\n%v", stages, want)
			}
			k.Complete = true
			keep(t, k, false)
			settled(t, k)

			// Everything has expired; there is no time to lose.
			later := now.Add(short + time.Second)
			k = f.keeper(t, newAnchor(t, "fourth", later, 0), true, later)
			standing, err := k.Look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(standing.Stages) == 0 || standing.Stages[0] != rotation.Recover {
				t.Errorf("the stages of a mesh that has expired are %v", standing.Stages)
			}
			keep(t, k, false)
			settled(t, k)
		})
	}
}
