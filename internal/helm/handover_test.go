package helm

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"regexp"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// recordable is a chart with everything that a record can hold: hooks, braces in the output, notes, files, CRDs beside
// the templates, a dependency that is used twice and one that is switched off, and the revision.
func recordable(t *testing.T) *Chart {
	t.Helper()
	const part = "apiVersion: v2\nname: part\nversion: 1.0.0\n"
	const hook = "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: {{ .Chart.Name }}-hook\n" +
		"  annotations: {helm.sh/hook: \"pre-install,pre-upgrade,post-rollback\", helm.sh/hook-weight: \"{{ .Values.weight }}\"}\n"
	loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: mesh\nversion: 1.0.0\nappVersion: edge-1\ndependencies:\n" +
			"- {name: part, version: 1.0.0}\n- {name: part, version: 1.0.0, alias: twin}\n- {name: unused, version: 1.0.0, condition: unused.enabled}\n",
		"values.yaml":                         "data: one\nweight: 5\nunused: {enabled: false}\ntwin: {weight: -1}\n",
		"files/text":                          "{{ not a template }}",
		"README.md":                           "read me",
		"templates/NOTES.txt":                 "Installed {{ .Values.data }}, revision {{ .Release.Revision }}.\n",
		"templates/_partial.tpl":              `{{ define "shared" }}shared{{ end }}`,
		"templates/b.yaml":                    "kind: Secret\napiVersion: v1\nmetadata: {name: b}\nstringData: {a: '{{ include \"shared\" . }}'}\n---\nkind: ServiceAccount\napiVersion: v1\nmetadata: {name: b}\n",
		"templates/a.yaml":                    "# A comment.\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata:\n  value: {{ .Values.data | quote }}\n  revision: \"{{ .Release.Revision }} {{ .Release.IsUpgrade }}\"\n  rule: '{{ \"{{ .Label }} {{- if }}\" }}'\n  file: '{{ .Files.Get \"files/text\" }}'\n",
		"templates/hook.yaml":                 hook,
		"templates/empty.yaml":                "{{ if .Values.never }}kind: Never{{ end }}\n",
		"charts/part/Chart.yaml":              part,
		"charts/part/values.yaml":             "weight: 1\n",
		"charts/part/templates/hook.yaml":     hook,
		"charts/part/templates/NOTES.txt":     "Notes of a part are not shown.\n",
		"charts/part/templates/part.yaml":     "kind: ConfigMap\napiVersion: v1\nmetadata: {name: \"{{ .Chart.Name }}\"}\ndata: {text: \"}}{{ \"{{{\" }}\"}\n",
		"charts/unused/Chart.yaml":            "apiVersion: v2\nname: unused\nversion: 1.0.0\n",
		"charts/unused/templates/broken.yaml": "{{ fail \"it is switched off\" }}",
	}))
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// recordOf returns the record of a revision as JSON, without what no two of them have in common.
func recordOf(t *testing.T, core typedcorev1.CoreV1Interface, namespace, revision string) string {
	t.Helper()
	secret, err := core.Secrets(namespace).Get(t.Context(), "sh.helm.release.v1.control.v"+revision, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if secret.Type != "helm.sh/release.v1" || secret.Labels["example.com/owner"] != "me" || secret.Labels["version"] != revision {
		t.Errorf("Secret of type %s with the labels %v", secret.Type, secret.Labels)
	}
	packed, err := base64.StdEncoding.DecodeString(string(secret.Data["release"]))
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	times := regexp.MustCompile(`"20\d\d-\d\d-\d\dT[^"]*"`)
	return secret.Labels["status"] + strings.ReplaceAll(times.ReplaceAllString(string(text), `"then"`), namespace, "ns")
}

// TestAccRecordsAreThoseOfHelm deploys by Helm alone and by way of a rendering, and compares everything on record. Helm
// then goes on with the release.
func TestAccRecordsAreThoseOfHelm(t *testing.T) {
	t.Parallel()
	cluster := connectCluster(t)
	releases := releasesOf(t, cluster)
	loaded := recordable(t)
	core, err := typedcorev1.NewForConfig(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"example.com/owner": "me"}
	plain, ours := shared.Cluster(t).Namespace(t), shared.Cluster(t).Namespace(t)
	helms := map[string]*action.Configuration{}
	for _, namespace := range []string{plain, ours} {
		path := shared.Cluster(t).Kubeconfig()
		cache := t.TempDir()
		flags := genericclioptions.NewConfigFlags(true)
		flags.KubeConfig, flags.Namespace, flags.CacheDir = &path, &namespace, &cache
		flags.WrapConfigFn = func(config *rest.Config) *rest.Config {
			config.QPS = -1
			return config
		}
		helms[namespace] = new(action.Configuration)
		if err := helms[namespace].Init(flags, namespace, "secret", func(string, ...any) {}); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		revision string
		values   map[string]any
		before   bool
		plain    func(chart *Chart, values map[string]any) (*release.Release, error)
	}{
		{"1", map[string]any{"data": "first", "list": []any{1, "two"}}, true, func(c *Chart, values map[string]any) (*release.Release, error) {
			install := action.NewInstall(helms[plain])
			install.Namespace, install.ReleaseName, install.Labels = plain, "control", labels
			install.DisableOpenAPIValidation = true
			fresh, err := c.load()
			if err != nil {
				return nil, err
			}
			return install.Run(fresh, values)
		}},
		{"2", map[string]any{"data": "{{ second }}", "weight": 0}, true, nil},
		{"3", map[string]any{"twin": map[string]any{"weight": 9}}, false, nil},
	} {
		if step.plain == nil {
			step.plain = func(c *Chart, values map[string]any) (*release.Release, error) {
				upgrade := action.NewUpgrade(helms[plain])
				upgrade.Namespace, upgrade.Labels, upgrade.ResetValues = plain, labels, true
				upgrade.DisableOpenAPIValidation = true
				fresh, err := c.load()
				if err != nil {
					return nil, err
				}
				return upgrade.Run("control", fresh, values)
			}
		}
		if _, err := step.plain(loaded, step.values); err != nil {
			t.Fatal(err)
		}
		request := DeployRequest{Namespace: ours, Name: "control", Chart: loaded, Values: step.values, Labels: labels}
		if step.before {
			if request.Rendered, err = releases.Render(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
		deployed, err := releases.Deploy(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		got, want := recordOf(t, core, ours, step.revision), recordOf(t, core, plain, step.revision)
		if got != want || len(deployed.hooks) != 3 || !strings.Contains(got, "revision "+step.revision+".") {
			t.Errorf("revision %s is recorded as\n%s\nwant\n%s", step.revision, got, want)
		}
	}

	// Helm finds its own in what it is left with.
	rollback := action.NewRollback(helms[ours])
	rollback.Version = 1
	if err := rollback.Run("control"); err != nil {
		t.Fatal(err)
	}
	upgrade := action.NewUpgrade(helms[ours])
	upgrade.Namespace, upgrade.ReuseValues, upgrade.DisableOpenAPIValidation = ours, true, true
	fresh, err := loaded.load()
	if err != nil {
		t.Fatal(err)
	}
	upgraded, err := upgrade.Run("control", fresh, map[string]any{"weight": 3})
	if err != nil || upgraded.Version != 5 || !strings.Contains(upgraded.Manifest, `value: "first"`) {
		t.Fatalf("upgraded to %+v, %v", upgraded, err)
	}
	if _, err := action.NewUninstall(helms[ours]).Run("control"); err != nil {
		t.Fatal(err)
	}
	if _, err := core.ConfigMaps(ours).Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the uninstall: %v", err)
	}
}

// TestDeployRendersNothingAgain uses a chart that never renders the same twice.
func TestDeployRendersNothingAgain(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	releases := server.releases(t)
	loaded, err := readArchive(packed(t, "1.0.0", map[string]string{
		"templates/one.yaml":  "kind: ConfigMap\napiVersion: v1\nmetadata: {name: one}\ndata: {value: {{ randAlphaNum 20 }}}\n",
		"templates/NOTES.txt": "{{ randAlphaNum 20 }}",
	}))
	if err != nil {
		t.Fatal(err)
	}
	request := deployRequest(t, nil)
	request.Chart = loaded
	for _, revision := range []int{1, 2, 3} {
		if request.Rendered, err = releases.Render(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		deployed, err := releases.Deploy(t.Context(), request)
		if err != nil || deployed.Revision != revision ||
			deployed.Manifest != request.Rendered.Manifest || deployed.notes != request.Rendered.notes || deployed.notes == "" {
			t.Fatalf("deployed %+v, %v", deployed, err)
		}
	}
	// Another revision has come in between: what was rendered might not be right any more.
	stale := request.Rendered
	deployed, err := releases.Deploy(t.Context(), request)
	if err != nil || deployed.Manifest == stale.Manifest {
		t.Errorf("deployed %+v, %v", deployed, err)
	}
	if data := server.get(configMaps + "one").Object["data"]; !strings.Contains(deployed.Manifest, data.(map[string]any)["value"].(string)) { //nolint:forcetypeassert // The panic names the cause.
		t.Errorf("the cluster has %v", data)
	}
}
