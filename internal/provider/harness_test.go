package provider

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// changing returns a check that wants an attribute to differ from what it was
// when the check ran before.
func changing(address, attribute string) resource.TestCheckFunc {
	var before string
	return resource.TestCheckResourceAttrWith(address, attribute, func(value string) error {
		if value == before {
			return fmt.Errorf("%s is still %q", attribute, value)
		}
		before = value
		return nil
	})
}

// invalidInput is what a refusal has to say: the attribute at fault and a
// part of the reason.
type invalidInput struct{ attribute, reason string }

// expectInvalid checks that each body of a resource is refused before any
// cluster is needed, with an error that names the attribute.
func expectInvalid(t *testing.T, resourceType string, bodies map[string]invalidInput) {
	t.Helper()
	expectInvalidBlock(t, "resource", resourceType, bodies)
}

// expectInvalidData is expectInvalid for a data source.
func expectInvalidData(t *testing.T, dataType string, bodies map[string]invalidInput) {
	t.Helper()
	expectInvalidBlock(t, "data", dataType, bodies)
}

func expectInvalidBlock(t *testing.T, block, typeName string, bodies map[string]invalidInput) {
	t.Helper()
	for body, want := range bodies {
		t.Run(want.attribute+" "+want.reason, func(t *testing.T) {
			t.Parallel()
			words := strings.ReplaceAll(regexp.QuoteMeta(want.reason), " ", `\s+`)
			resource.UnitTest(t, resource.TestCase{
				ProtoV6ProviderFactories: testProviders,
				Steps: []resource.TestStep{{
					Config:      fmt.Sprintf("provider \"aksmesh\" {\n  kubernetes = { host = \"https://nowhere.invalid\" }\n}\n%s %q \"this\" {\n%s\n}", block, typeName, body),
					PlanOnly:    true,
					ExpectError: regexp.MustCompile(`(?is)` + want.attribute + `.*` + words),
				}},
			})
		})
	}
}

// createSecret creates a Secret as somebody else would.
func createSecret(t *testing.T, cluster *testcluster.Cluster, namespace, name string, data map[string]string) {
	t.Helper()
	_, err := cluster.Client().CoreV1().Secrets(namespace).Create(t.Context(),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: data}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// anchorPEM is the certificate of a fresh trust anchor.
func anchorPEM(t *testing.T) string {
	t.Helper()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return string(anchor.CertificatePEM())
}

// releaseText is what Helm keeps in a release's record, as JSON.
func releaseText(data []byte) (string, error) {
	compressed, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return "", err
	}
	reader, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(reader)
	return string(text), err
}

// await polls until done returns true, for at most a minute.
func await(t *testing.T, what string, done func(ctx context.Context) bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true,
		func(ctx context.Context) (bool, error) { return done(ctx), nil })
	if err != nil {
		t.Fatalf("waited in vain for %s: %v", what, err)
	}
}

// awaitPod waits for a pod with the label app=<name>.
func awaitPod(t *testing.T, cluster *testcluster.Cluster, namespace, name string) {
	t.Helper()
	await(t, "a pod of "+name, func(ctx context.Context) bool {
		pods, err := cluster.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		return err == nil && len(pods.Items) > 0
	})
}
