package provider

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/cli"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// cost is what a run of Terraform has asked of the cluster and of the machine.
type cost struct {
	lists, gets, watches, writes int
	wall                         time.Duration
	memory                       int64 // of the provider, in bytes
	listsOf                      map[string]int
	requests                     []string // verb and path of each
}

// report adds the cost to the figures of a benchmark.
func (c cost) report(b *testing.B, run string) {
	b.Helper()
	for unit, value := range map[string]float64{
		"LISTs": float64(c.lists), "GETs": float64(c.gets), "watches": float64(c.watches), "writes": float64(c.writes),
		"s": c.wall.Seconds(), "MiB": float64(c.memory) / (1 << 20),
	} {
		b.ReportMetric(value, run+"-"+unit)
	}
}

// measure runs Terraform, and counts what the provider asks of the cluster.
func measure(b testing.TB, cluster *testcluster.Cluster, w *workspace, args ...string) cost {
	b.Helper()
	// Microseconds are what the audit log keeps.
	began := time.Now().Truncate(time.Microsecond)
	e := w.start(args...)
	found := cost{memory: e.peakMemory(), listsOf: map[string]int{}}
	got := e.wait()
	if got.code != 0 {
		b.Fatalf("terraform %s: exit code %d\n%s", args[0], got.code, got.output)
	}
	found.wall = got.ended.Sub(began)
	events, err := cluster.AuditEvents(began)
	if err != nil {
		b.Fatal(err)
	}
	for _, event := range events {
		if !strings.HasPrefix(event.UserAgent, providerExecutable) {
			continue
		}
		found.requests = append(found.requests, event.Verb+" "+event.Path)
		switch event.Verb {
		case "list":
			found.lists++
			found.listsOf[strings.Trim(event.Namespace+" "+event.Resource, " ")]++
		case "get":
			found.gets++
		case "watch":
			found.watches++
		default:
			found.writes++
		}
	}
	return found
}

// BenchmarkHundredResources applies, plans and destroys 50 enrolments and as
// many policies, each pair in a namespace with one Deployment.
func BenchmarkHundredResources(b *testing.B) {
	const pairs = 50
	cluster := linkerdCluster(b)
	config := providerConfig(cluster.Kubeconfig())
	workloads := make([]kube.Ref, 0, pairs)
	for i := range pairs {
		namespace := cluster.Namespace(b)
		deployment := testcluster.NewDeployment(namespace, "web", 1)
		if _, err := cluster.Client().AppsV1().Deployments(namespace).Create(b.Context(), deployment, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		workloads = append(workloads, kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "web"})
		config += fmt.Sprintf(`
		resource "aksmesh_injection" "n%[1]d" {
		  namespace = %[2]q
		  mesh      = { linkerd = {} }
		}
		resource "aksmesh_network_policy" "n%[1]d" {
		  namespace    = %[2]q
		  pod_selector = { app = "web" }
		  ports        = [8080]
		  mesh         = { linkerd = {} }
		}`, i, namespace)
	}
	if err := connect(b, cluster).AwaitReady(b.Context(), workloads...); err != nil {
		b.Fatal(err)
	}
	w := newWorkspace(b, config)
	for b.Loop() {
		apply := measure(b, cluster, w, "apply", "-auto-approve", "-no-color")
		apply.report(b, "apply")
		b.Logf("an apply lists %v", apply.listsOf)
		plan := measure(b, cluster, w, "plan", "-detailed-exitcode", "-no-color")
		plan.report(b, "plan")
		for of, lists := range plan.listsOf {
			if lists > 2 {
				b.Errorf("a plan lists %s %d times, want at most 2", of, lists)
			}
		}
		if plan.writes > 0 {
			b.Errorf("a plan has written %d times", plan.writes)
		}
		measure(b, cluster, w, "destroy", "-auto-approve", "-no-color").report(b, "destroy")
	}
}

// BenchmarkTwoHundredWorkloads enrols 200 workloads, one resource each, in one
// apply, and looks at them in a plan.
func BenchmarkTwoHundredWorkloads(b *testing.B) {
	cluster := linkerdCluster(b)
	w := newWorkspace(b, enrolledWorkloads(b, cluster, 5, 40))
	for b.Loop() {
		measure(b, cluster, w, "apply", "-auto-approve", "-no-color").report(b, "apply")
		measure(b, cluster, w, "plan", "-detailed-exitcode", "-no-color").report(b, "plan")
		measure(b, cluster, w, "destroy", "-auto-approve", "-no-color").report(b, "destroy")
	}
}

// installBy makes a run of this very binary an installation, so that its memory
// is that of nothing else: by the engine of this provider, or by bare Helm.
const installBy = "AKSMESH_BENCH_INSTALL"

// istioCharts are the charts of the default profile and their releases.
var istioCharts = []struct{ release, chart string }{
	{"istio-base", istio.BaseChart}, {"istiod", istio.IstiodChart}, {"istio-ingressgateway", istio.GatewayChart},
}

// BenchmarkInstallIstio installs Istio's charts, until all is ready, into a fresh
// cluster each, by this provider's engine and by the bare SDK of Helm.
func BenchmarkInstallIstio(b *testing.B) {
	if by := os.Getenv(installBy); by != "" {
		kubeconfig, repository := os.Getenv("KUBECONFIG"), os.Getenv(installBy+"_REPOSITORY")
		map[string]func(testing.TB, string, string){"engine": installByEngine, "helm": installByHelm}[by](b, kubeconfig, repository)
		return
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, by := range []string{"engine", "helm"} {
			cluster := testcluster.New(b, testcluster.Options{})
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: istio.DefaultNamespace}}
			if _, err := cluster.Client().CoreV1().Namespaces().Create(b.Context(), namespace, metav1.CreateOptions{}); err != nil {
				b.Fatal(err)
			}
			command := exec.CommandContext(b.Context(), self, "-test.run", "^$", "-test.bench", "^BenchmarkInstallIstio$", "-test.benchtime", "1x")
			command.Env = append(os.Environ(), installBy+"="+by, installBy+"_REPOSITORY="+cluster.Charts().Repository,
				"KUBECONFIG="+cluster.Kubeconfig(), "HELM_CACHE_HOME="+b.TempDir(), "HELM_CONFIG_HOME="+b.TempDir(), "HELM_DATA_HOME="+b.TempDir())
			began := time.Now()
			output, err := command.CombinedOutput()
			took := time.Since(began)
			if err != nil {
				b.Fatalf("install by %s: %v\n%s", by, err, output)
			}
			b.ReportMetric(took.Seconds(), by+"-s")
			if usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
				b.ReportMetric(float64(usage.Maxrss)/(1<<10), by+"-MiB")
			}
		}
	}
}

func installByEngine(t testing.TB, kubeconfig, repository string) {
	t.Helper()
	cluster, err := kube.Connect(kube.Settings{ConfigPaths: []string{kubeconfig}}, "aksmesh-bench")
	if err != nil {
		t.Fatal(err)
	}
	releases, err := helm.NewReleases(cluster, helm.ReleasesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	charts := install.Charts{
		Cluster: cluster, Releases: releases, Renderings: &install.Renderings{},
		Library: helm.NewLibrary(helm.LibraryOptions{CacheDir: t.TempDir()}),
	}
	var wanted []install.Release
	for _, c := range istioCharts {
		chart, err := charts.Load(t.Context(), repository, c.chart, istioNew)
		if err != nil {
			t.Fatal(err)
		}
		wanted = append(wanted, install.Release{Namespace: istio.DefaultNamespace, Name: c.release, Chart: chart, Values: map[string]any{}})
	}
	if _, err := charts.Foresee(t.Context(), wanted, nil); err != nil {
		t.Fatal(err)
	}
	if err := charts.Apply(t.Context(), wanted, false); err != nil {
		t.Fatal(err)
	}
}

func installByHelm(t testing.TB, kubeconfig, repository string) {
	t.Helper()
	settings := cli.New()
	settings.KubeConfig = kubeconfig
	settings.SetNamespace(istio.DefaultNamespace)
	for _, c := range istioCharts {
		config := &action.Configuration{}
		if err := config.Init(settings.RESTClientGetter(), istio.DefaultNamespace, "secret", func(string, ...any) {}); err != nil {
			t.Fatal(err)
		}
		installation := action.NewInstall(config)
		installation.ReleaseName, installation.Namespace, installation.Wait, installation.Timeout = c.release, istio.DefaultNamespace, true, 5*time.Minute
		installation.RepoURL, installation.Version = repository, istioNew
		path, err := installation.LocateChart(c.chart, settings)
		if err != nil {
			t.Fatal(err)
		}
		chart, err := loader.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := installation.RunWithContext(t.Context(), chart, map[string]any{}); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkSchema tells what the provider costs whoever merely asks for its
// schema, as every editor and every run of Terraform does.
func BenchmarkSchema(b *testing.B) {
	executable, err := os.Stat(filepath.Join(builtProvider.directory(b), providerExecutable))
	if err != nil {
		b.Fatal(err)
	}
	w, without := newWorkspace(b, ""), newWorkspace(b, "")
	without.file("versions.tf", "")
	for b.Loop() {
		// The shortest of some runs: others use the machine, too.
		const runs = 5
		shortest := map[*workspace]time.Duration{}
		var memory int64
		var schema string
		for range runs {
			for _, measured := range []*workspace{w, without} {
				began := time.Now()
				e := measured.start("providers", "schema", "-json")
				memory = max(memory, e.peakMemory())
				got := e.wait()
				if took := got.ended.Sub(began); shortest[measured] == 0 || took < shortest[measured] {
					shortest[measured] = took
				}
				if measured == w {
					schema = got.output[strings.Index(got.output, "{") : strings.LastIndex(got.output, "}")+1]
				}
			}
		}
		b.ReportMetric(float64(executable.Size())/(1<<20), "executable-MiB")
		b.ReportMetric(float64(memory)/(1<<20), "provider-MiB")
		b.ReportMetric(float64(len(schema))/1e3, "schema-kB")
		b.ReportMetric(shortest[w].Seconds(), "terraform-s")
		b.ReportMetric((shortest[w] - shortest[without]).Seconds(), "provider-s")
	}
}
