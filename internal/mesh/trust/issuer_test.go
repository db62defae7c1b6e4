package trust_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/trust"
)

// TestIssuerOfTheAddon holds that the namespace of AKS's Istio add-on is neither made
// nor deleted for an issuer, even where it says that it was made by this provider, and
// that a CA which AKS has synced from a key vault stays as it is.
func TestIssuerOfTheAddon(t *testing.T) {
	t.Parallel()
	f := newFixture(t, "istio")
	f.ref.Namespace = check.AddonNamespace
	namespaces := f.embedded.Client().CoreV1().Namespaces()
	secrets := f.embedded.Client().CoreV1().Secrets(check.AddonNamespace)
	now := time.Now()
	keeper := f.keeper(t, newAnchor(t, "anchor", now, 0), false, now)

	if _, err := keeper.Keep(t.Context(), false); err == nil || !strings.Contains(err.Error(), "Namespace "+check.AddonNamespace) || !strings.Contains(err.Error(), "enable that first") {
		t.Fatalf("an issuer before the add-on: %v", err)
	}
	if _, err := namespaces.Get(t.Context(), check.AddonNamespace, metav1.GetOptions{}); err == nil {
		t.Fatal("the namespace of the add-on was made")
	}

	made := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: check.AddonNamespace, Annotations: map[string]string{"aksmesh.io/created": "true"}}}
	if _, err := namespaces.Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	keep(t, keeper, false)
	if err := trust.DeleteIssuer(t.Context(), f.cluster, f.ref); err != nil {
		t.Fatal(err)
	}
	left, err := namespaces.Get(t.Context(), check.AddonNamespace, metav1.GetOptions{})
	if err != nil || left.DeletionTimestamp != nil || len(left.Annotations) > 1 {
		t.Errorf("the namespace of the add-on is not what it was: %+v (%v)", left, err)
	}
	if _, err := secrets.Get(t.Context(), "cacerts", metav1.GetOptions{}); err == nil {
		t.Error("the issuer is still there")
	}

	synced := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "cacerts", Labels: map[string]string{"secrets-store.csi.k8s.io/managed": "true"}},
		Data:       map[string][]byte{"ca-cert.pem": []byte("AKS's")},
	}
	if _, err := secrets.Create(t.Context(), synced, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, resumeErr := keeper.Resumable(t.Context())
	_, lookErr := keeper.Look(t.Context())
	_, keepErr := keeper.Keep(t.Context(), false)
	for what, err := range map[string]error{"a creation": resumeErr, "an import": lookErr, "an update": keepErr} {
		if err == nil || !strings.Contains(err.Error(), "plugin of AKS's Istio add-on") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := trust.DeleteIssuer(t.Context(), f.cluster, f.ref); err != nil {
		t.Error(err)
	}
	found, err := secrets.Get(t.Context(), "cacerts", metav1.GetOptions{})
	if err != nil || string(found.Data["ca-cert.pem"]) != "AKS's" || len(found.ManagedFields) > 1 {
		t.Errorf("AKS's CA is not what it was: %+v (%v)", found, err)
	}
}
