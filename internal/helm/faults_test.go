package helm

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// TestAccFaultsInEveryPhase has each operation meet each fault in each of its phases, and expects the next one to get to
// where it should be, with the whole history on record.
func TestAccFaultsInEveryPhase(t *testing.T) {
	t.Parallel()
	const hook = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {{ .Release.Name }}\n" +
		"  annotations: {helm.sh/hook: \"pre-install,post-upgrade,post-rollback,pre-delete\"}\n"
	const object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"{{ .Release.Name }}%s\"}\ndata: {value: {{ .Values.data }}}\n"
	loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
		"templates/hook.yaml":  hook,
		"templates/one.yaml":   fmt.Sprintf(object, ""),
		"templates/extra.yaml": "{{ if .Values.extra }}\n" + fmt.Sprintf(object, "-extra") + "{{ end }}\n",
		"templates/old.yaml":   "{{ if .Values.old }}\n" + fmt.Sprintf(object, "-old") + "{{ end }}\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	type requests struct{ methods, path string }
	phases := map[string]requests{
		"record written": {"POST", "/secrets"},
		"objects":        {"POST PATCH", "/configmaps"},
		"hooks":          {"POST", "/serviceaccounts"},
		"record closed":  {"PUT", "/secrets"},
	}
	removing := map[string]requests{
		"record written": {"PUT", "/secrets"},
		"objects":        {"DELETE", "/configmaps"},
		"hooks":          {"POST", "/serviceaccounts"},
		"record closed":  {"DELETE", "/secrets"},
	}
	for operation, before := range map[string]int{"install": 0, "upgrade": 1, "rollback": 2, "uninstall": 1} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			proxy := testcluster.NewFaultProxy(t, shared.Cluster(t).Kubeconfig())
			cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{proxy.Kubeconfig()}}, "helm-test")
			if err != nil {
				t.Fatal(err)
			}
			releases := releasesOf(t, cluster)
			namespace := shared.Cluster(t).Namespace(t)
			deploy := func(ctx context.Context, name, data, optional string) (*Release, error) {
				return releases.Deploy(ctx, DeployRequest{
					Namespace: namespace, Name: name, Chart: loaded, Values: map[string]any{"data": data, optional: true},
				})
			}
			run := map[string]func(context.Context, string) error{
				"install": func(ctx context.Context, name string) error {
					_, err := deploy(ctx, name, "wrong", "extra")
					return err
				},
				"upgrade": func(ctx context.Context, name string) error {
					_, err := deploy(ctx, name, "wrong", "extra")
					return err
				},
				"rollback": func(ctx context.Context, name string) error {
					_, err := releases.Rollback(ctx, RollbackRequest{Namespace: namespace, Name: name, Revision: 1})
					return err
				},
				"uninstall": func(ctx context.Context, name string) error {
					return releases.Uninstall(ctx, namespace, name, UninstallOptions{Wait: true})
				},
			}[operation]
			where := maps.Clone(phases)
			switch operation {
			case "uninstall":
				where = removing
			case "upgrade", "rollback":
				where["objects no more wanted"] = requests{"DELETE", "/configmaps"}
			}
			for phase, requests := range where {
				for _, fault := range []testcluster.Fault{
					testcluster.FaultTooManyRequests, testcluster.FaultServerError, testcluster.FaultReset, testcluster.FaultHang,
				} {
					title := operation + ", " + phase + ", " + fault.String()
					name := strings.NewReplacer(" ", "-", ",", "").Replace(title)
					for i := range before {
						if _, err := deploy(t.Context(), name, fmt.Sprintf("before-%d", i), []string{"old", "none"}[before-i-1]); err != nil {
							t.Fatalf("%s: %v", title, err)
						}
					}
					proxy.Set(fault, testcluster.Methods(strings.Fields(requests.methods)...), testcluster.PathContains(requests.path))
					err := until(t, proxy, fault, func(ctx context.Context) error { return run(ctx, name) })
					proxy.Clear()
					// A burst is sat out. That Helm goes on when it cannot write a record of what it ends is made good below.
					burst, ends := fault == testcluster.FaultTooManyRequests, phase == "record closed" || operation == "uninstall"
					if burst && err != nil || !burst && err == nil && !ends {
						t.Errorf("%s: %v", title, err)
					}
					if operation == "uninstall" {
						if err := run(t.Context(), name); err != nil {
							t.Errorf("%s, then: %v", title, err)
						}
						checkLeft(t, cluster, namespace, name, title, nil, 0)
						continue
					}
					deployed, err := deploy(t.Context(), name, "right", "none")
					if err != nil || deployed.Status != StatusDeployed {
						t.Errorf("%s, then: %+v, %v", title, deployed, err)
						continue
					}
					checkLeft(t, cluster, namespace, name, title, []string{name + "=right"}, deployed.Revision)
				}
			}
		})
	}
}

// until runs an operation under a fault. One that would be sat out ends with the first request that meets it; one that
// leaves requests without an answer is the end of all connections and of the operation.
func until(t *testing.T, proxy *testcluster.FaultProxy, fault testcluster.Fault, operation func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- operation(ctx) }()
	met := make(chan error, 1)
	go func() { met <- proxy.WaitFaulted(ctx) }()
	select {
	case err := <-done:
		return err
	case err := <-met:
		if err != nil {
			return err
		}
	}
	switch fault { //nolint:exhaustive // The others last.
	case testcluster.FaultTooManyRequests:
		proxy.Clear()
	case testcluster.FaultHang:
		proxy.Set(testcluster.FaultReset)
		cancel()
	}
	return <-done
}

// checkLeft compares the objects of a release, and the number of its records.
func checkLeft(t *testing.T, cluster *kube.Cluster, namespace, name, title string, want []string, records int) {
	t.Helper()
	list, err := objectsOf(t, cluster, "", "configmaps").Namespace(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=Helm"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range list.Items {
		if item.GetAnnotations()["meta.helm.sh/release-name"] == name {
			value, _, _ := unstructured.NestedString(item.Object, "data", "value")
			got = append(got, item.GetName()+"="+value)
		}
	}
	secrets, err := objectsOf(t, cluster, "", "secrets").Namespace(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm,name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") || len(secrets.Items) != records {
		t.Errorf("%s, then: objects %v, want %v; %d records of %d", title, got, want, len(secrets.Items), records)
	}
}
