package provider

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// TestAccAliases has one run look after two clusters in which everything has the
// same names, in different versions: what is known of one must never be taken
// for what is in the other.
func TestAccAliases(t *testing.T) {
	t.Parallel()
	clusters := map[string]*testcluster.Cluster{"old": testcluster.New(t, testcluster.Options{Nodes: 1}), "new": testcluster.New(t, testcluster.Options{Nodes: 1})}
	config := ""
	for alias, version := range map[string]string{"old": istioOld, "new": istioNew} {
		config += fmt.Sprintf(`
		provider "aksmesh" {
		  alias      = %[1]q
		  kubernetes = { config_path = %[2]q }
		}
		resource "aksmesh_istio" %[1]q {
		  provider    = aksmesh.%[1]s
		  version     = %[3]q
		  repository  = %[4]q
		  profile     = "minimal"
		}
		`, alias, clusters[alias].Kubeconfig(), version, clusters[alias].Charts().Repository)
	}
	check := func(alias, version string) {
		t.Helper()
		istiod, err := clusters[alias].Client().AppsV1().Deployments(istioSystem).Get(t.Context(), "istiod", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if image := istiod.Spec.Template.Spec.Containers[0].Image; image != istioHub+"/pilot:"+version {
			t.Errorf("istiod of the cluster %q is %s, want version %s", alias, image, version)
		}
	}
	// Terraform gives each alias a process of its own, and plugin-testing does not.
	w := newWorkspace(t, config)
	w.apply()
	w.expectNoChanges()
	check("old", istioOld)
	check("new", istioNew)
	if err := clusters["old"].Client().AppsV1().Deployments(istioSystem).Delete(t.Context(), "istiod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	got := w.succeed("plan", "-no-color")
	if !strings.Contains(got.output, "aksmesh_istio.old will be updated in-place") || strings.Contains(got.output, "aksmesh_istio.new will be") {
		t.Errorf("the plan is not about the one cluster:\n%s", got.output)
	}
	w.apply()
	w.expectNoChanges()
	check("old", istioOld)
	check("new", istioNew)
}
