package provider

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// A keyHunt knows private keys, and finds them in whatever form they were written.
type keyHunt struct {
	mu    sync.Mutex
	keys  map[string]map[string][]byte // the forms of each key by the name of where it belongs
	known map[string]bool              // keys by their PEM
}

func newKeyHunt() *keyHunt {
	return &keyHunt{keys: map[string]map[string][]byte{}, known: map[string]bool{}}
}

// learn takes up all private keys in PEM.
func (h *keyHunt) learn(owner string, text []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") || h.known[string(block.Bytes)] {
			continue
		}
		h.known[string(block.Bytes)] = true
		forms, err := formsOf(block)
		if err != nil {
			return fmt.Errorf("%s: %w", owner, err)
		}
		h.keys[fmt.Sprintf("%s #%d", owner, len(h.known))] = forms
	}
	return nil
}

// formsOf are the ways to write a private key, or enough of it.
func formsOf(block *pem.Block) (map[string][]byte, error) {
	forms := map[string][]byte{}
	encoded := map[string][]byte{block.Type: block.Bytes}
	var secret []byte
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if key, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			if key, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
				return nil, err
			}
		}
	}
	if encoded["PRIVATE KEY"], err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		if secret, err = key.Bytes(); err != nil {
			return nil, err
		}
		if encoded["EC PRIVATE KEY"], err = x509.MarshalECPrivateKey(key); err != nil {
			return nil, err
		}
	case *rsa.PrivateKey:
		secret = key.Primes[0].Bytes()
		encoded["RSA PRIVATE KEY"] = x509.MarshalPKCS1PrivateKey(key)
	default:
		return nil, fmt.Errorf("a key of type %T", key)
	}
	forms["its number"] = secret
	forms["its number in hexadecimal"] = []byte(hex.EncodeToString(secret))
	forms["its number in hexadecimal capitals"] = bytes.ToUpper(forms["its number in hexadecimal"])
	// Whatever it is written in between, base64 of the number looks like one of these.
	for i, text := range base64Inside(secret) {
		forms[fmt.Sprintf("base64 shifted by %d", i)] = text
	}
	for kind, der := range encoded {
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		quoted, err := json.Marshal(string(text))
		if err != nil {
			return nil, err
		}
		forms[kind+" in DER"] = der
		forms[kind+" in PEM"] = text
		forms[kind+" in PEM in JSON"] = bytes.Trim(quoted, `"`)
		forms[kind+" in hexadecimal"] = []byte(hex.EncodeToString(der))
		forms[kind+" in base64"] = []byte(base64.StdEncoding.EncodeToString(der))
		for i, line := range bytes.Split(text, []byte("\n"))[1:3] {
			forms[fmt.Sprintf("%s, line %d of the PEM", kind, i+1)] = line
		}
		for i, inside := range base64Inside(text) {
			forms[fmt.Sprintf("%s in base64 of the PEM shifted by %d", kind, i)] = inside
		}
	}
	return forms, nil
}

// base64Inside is what base64 makes of some bytes wherever they begin in a text,
// but for the characters at both ends that depend on what is around.
func base64Inside(secret []byte) [][]byte {
	var all [][]byte
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		all = append(all, []byte(text[4:len(text)-4]))
	}
	return all
}

// find names the keys that a text gives away, each once with a form of it.
func (h *keyHunt) find(text []byte) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []string
	for owner, forms := range h.keys {
		for _, form := range slices.Sorted(maps.Keys(forms)) {
			if bytes.Contains(text, forms[form]) {
				found = append(found, owner+" as "+form)
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

func (h *keyHunt) owners() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.keys))
}

// watchKeys learns every private key that is in a Secret at any time from now on.
func watchKeys(t *testing.T, cluster *testcluster.Cluster) *keyHunt {
	t.Helper()
	h := newKeyHunt()
	secrets := cluster.Client().CoreV1().Secrets("")
	now, err := secrets.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := watchtools.NewRetryWatcherWithContext(t.Context(), now.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return secrets.Watch(ctx, options)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var failures []error
	take := func(object any) {
		secret, ok := object.(*corev1.Secret)
		if !ok {
			failures = append(failures, fmt.Errorf("the watch on Secrets broke off: %v", object))
			return
		}
		for key, value := range secret.Data {
			failures = append(failures, h.learn(secret.Namespace+"/"+secret.Name+"/"+key, value))
		}
	}
	for _, secret := range now.Items {
		take(&secret)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for event := range events.ResultChan() {
			take(event.Object)
		}
	})
	t.Cleanup(func() {
		events.Stop()
		reading.Wait()
		if err := errors.Join(failures...); err != nil {
			t.Error(err)
		}
	})
	return h
}

// traced runs Terraform with all logs that there are, which become part of the
// output.
func (w *workspace) traced(args ...string) outcome {
	w.t.Helper()
	before := w.env
	w.env = append(slices.Clone(before), "TF_LOG=TRACE")
	defer func() { w.env = before }()
	return w.run(args...)
}

// planFiles are a saved plan: what Terraform keeps in it, and how it shows it.
func (w *workspace) planFiles() map[string][]byte {
	w.t.Helper()
	const name = "saved.plan"
	files := map[string][]byte{"plan": []byte(w.traced("plan", "-no-color", "-out", name).output)}
	files["show"] = []byte(w.succeed("show", "-no-color", name).output)
	files["show -json"] = []byte(w.succeed("show", "-json", name).output)
	archive, err := zip.OpenReader(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	defer archive.Close() //nolint:errcheck // It was only read.
	for _, file := range archive.File {
		reader, err := file.Open()
		if err != nil {
			w.t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			w.t.Fatal(err)
		}
		files["plan file "+file.Name] = content
	}
	return files
}

// helmRecords are what Helm keeps of all releases, in clear.
func helmRecords(t *testing.T, cluster *testcluster.Cluster) map[string][]byte {
	t.Helper()
	list, err := cluster.Client().CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		t.Fatal(err)
	}
	records := map[string][]byte{}
	for _, secret := range list.Items {
		text, err := releaseText(secret.Data["release"])
		if err != nil {
			t.Fatal(err)
		}
		records["Helm record "+secret.Name] = []byte(text)
	}
	if len(records) == 0 {
		t.Error("there is no release")
	}
	return records
}

// TestAccPrivateKeys looks for every private key that ever was in a Secret in all
// that Terraform, the provider and Helm write.
func TestAccPrivateKeys(t *testing.T) {
	t.Parallel()
	cluster := testcluster.New(t, testcluster.Options{Nodes: 1})
	hunt := watchKeys(t, cluster)
	proxy := testcluster.NewFaultProxy(t, cluster.Kubeconfig())
	c := trustConfig{
		kubeconfig: proxy.Kubeconfig(), repository: cluster.Charts().Repository, mesh: "linkerd",
		rotation: rotationComplete, enrolled: []string{cluster.Namespace(t)},
	}
	deploy(t, cluster, c.enrolled[0], "web", 2)
	w := newWorkspace(t, c.String())
	written := map[string][]byte{}
	collect := func(when string, files map[string][]byte) {
		for name, content := range files {
			written[when+": "+name] = content
		}
		written[when+": state"] = w.stateBytes()
	}
	apply := []string{"apply", "-auto-approve", "-json"}
	succeed := func(when string) {
		t.Helper()
		collect(when, w.planFiles())
		got := w.traced(apply...)
		if got.code != 0 {
			t.Fatalf("%s: exit code %d: %v", when, got.code, got.failures())
		}
		collect(when, map[string][]byte{"apply": []byte(got.output)})
	}
	// The cluster refuses what holds keys, and the provider says so.
	refused := func(when string, moment testcluster.Match) {
		t.Helper()
		proxy.Set(testcluster.FaultServerError, moment)
		got := w.traced(apply...)
		if got.code == 0 || len(got.failures()) == 0 {
			t.Fatalf("%s: exit code %d", when, got.code)
		}
		proxy.Clear()
		collect(when, map[string][]byte{"apply": []byte(got.output)})
	}
	refused("a refused anchor", request(http.MethodPost, "/namespaces/aksmesh-system/secrets"))
	succeed("installation")
	c.trigger = "1"
	w.write(c.String())
	refused("a refused issuer", request(http.MethodPatch, "/secrets/linkerd-identity-issuer"))
	succeed("rotation")
	c.renewal = "1"
	w.write(c.String())
	succeed("renewal")
	collect("releases", helmRecords(t, cluster))

	await(t, "two anchors and three issuers", func(context.Context) bool {
		count := map[string]int{}
		for _, owner := range hunt.owners() {
			name, _, _ := strings.Cut(owner, " ")
			count[name]++
		}
		return count["aksmesh-system/aksmesh-trust-anchor-default/tls.key"] >= 2 && count["linkerd/linkerd-identity-issuer/tls.key"] >= 3
	})
	const webhook = "linkerd/linkerd-proxy-injector-k8s-tls/tls.key"
	if !slices.ContainsFunc(hunt.owners(), func(owner string) bool { return strings.HasPrefix(owner, webhook) }) {
		t.Errorf("no key of a webhook among %v", hunt.owners())
	}
	for name, content := range written {
		if len(content) == 0 && !strings.HasPrefix(name, "a refused anchor") {
			t.Errorf("%s is empty", name)
		}
		for _, key := range hunt.find(content) {
			t.Errorf("%s gives away the key of %s", name, key)
		}
	}

	// The one that is asked for is found in the state, and nowhere else: it is not
	// that there is nothing to find.
	c.issuer = "private_key_in_state = true"
	w.write(c.String())
	got := w.traced(apply...)
	if got.code != 0 {
		t.Fatalf("exit code %d: %v", got.code, got.failures())
	}
	if found := hunt.find(w.stateBytes()); len(found) != 1 || !strings.HasPrefix(found[0], "linkerd/linkerd-identity-issuer/tls.key") {
		t.Errorf("the state gives away %v, want the key of the issuer alone", found)
	}
	plan := w.traced("plan", "-no-color")
	for name, content := range map[string]string{"the apply": got.output, "the plan": plan.output} {
		if found := hunt.find([]byte(content)); len(found) > 0 {
			t.Errorf("%s gives away %v", name, found)
		}
	}
}

// TestAccPrivateKeys_state keeps the key of an anchor in the state, which is where
// it has to be found, and hands it on to an issuer.
func TestAccPrivateKeys_state(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	hunt := newKeyHunt()
	namespace := cluster.Namespace(t)
	config := func(trigger string) string {
		return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
		resource "aksmesh_trust_anchor" "this" {
		  private_key_storage = "state"
		  rotation_trigger    = %q
		}
		resource "aksmesh_issuer" "this" {
		  mesh             = "linkerd"
		  namespace        = %q
		  trust_bundle_pem = aksmesh_trust_anchor.this.bundle_pem
		  signer           = { private_key_wo = aksmesh_trust_anchor.this.private_key_pem }
		}`, trigger, namespace))
	}
	w := newWorkspace(t, config("1"))
	for _, trigger := range []string{"1", "2"} {
		w.write(config(trigger))
		plan := w.traced("plan", "-no-color")
		apply := w.traced("apply", "-auto-approve", "-no-color")
		if plan.code != 0 || apply.code != 0 {
			t.Fatalf("exit codes %d and %d\n%s", plan.code, apply.code, w.run("apply", "-auto-approve", "-no-color").output)
		}
		if err := hunt.learn("anchor "+trigger, []byte(w.attribute(anchorAddress, "private_key_pem"))); err != nil {
			t.Fatal(err)
		}
		again := w.traced("plan", "-no-color")
		for name, content := range map[string]string{"the plan": plan.output, "the apply": apply.output, "the plan after it": again.output} {
			if found := hunt.find([]byte(content)); len(found) > 0 {
				t.Errorf("%s gives away %v", name, found)
			}
		}
		found := hunt.find(w.stateBytes())
		if len(found) != 1 || !strings.HasPrefix(found[0], "anchor "+trigger) {
			t.Errorf("the state gives away %v, want the key of anchor %s alone", found, trigger)
		}
	}
}
