package helm

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// way is a kube.Access.
type way struct{ host string }

func (w way) String() string { return "cluster rg/prod" }

func (w way) Connect(context.Context) (*rest.Config, error) {
	if w.host == "" {
		return nil, errors.New("get the credentials of cluster rg/prod: refused")
	}
	return &rest.Config{Host: w.host}, nil
}

func (way) Login(context.Context) error { return nil }

func (w way) Explain(context.Context, error) string { return "A role is missing." }

func (w way) releases(t *testing.T) *Releases {
	t.Helper()
	cluster, err := kube.Connect(kube.Settings{Access: w}, "helm-test")
	if err != nil {
		t.Fatal(err)
	}
	return releasesOf(t, cluster)
}

// TestAccessExplainsErrors holds that all errors about a cluster that somebody else has to be asked for say what he says,
// and name the cluster once in place of an address.
func TestAccessExplainsErrors(t *testing.T) {
	t.Parallel()
	chart, err := readArchive(packed(t, "1.0.0", map[string]string{"templates/c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"}))
	if err != nil {
		t.Fatal(err)
	}
	server := newAPIServer(t)
	request := DeployRequest{Namespace: "ns", Name: "there", Chart: chart}
	if _, err := (way{server.URL}).releases(t).Deploy(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	operations := map[string]func(ctx context.Context, r *Releases) error{
		"get":          func(ctx context.Context, r *Releases) error { _, err := r.Get(ctx, "ns", "there"); return err },
		"list":         func(ctx context.Context, r *Releases) error { _, err := r.List(ctx, "ns"); return err },
		"last healthy": func(ctx context.Context, r *Releases) error { _, err := r.LastHealthy(ctx, "ns", "there"); return err },
		"render":       func(ctx context.Context, r *Releases) error { _, err := r.Render(ctx, request); return err },
		"upgrade":      func(ctx context.Context, r *Releases) error { _, err := r.Deploy(ctx, request); return err },
		"uninstall": func(ctx context.Context, r *Releases) error {
			return r.Uninstall(ctx, "ns", "there", UninstallOptions{})
		},
		"chart": func(ctx context.Context, r *Releases) error {
			_, err := r.RecordedChart(ctx, "ns", "there")
			return err
		},
		"template": func(ctx context.Context, r *Releases) error {
			_, err := r.Template(ctx, RenderRequest{Namespace: "ns", Name: "there", Chart: chart})
			return err
		},
		"mark": func(ctx context.Context, r *Releases) error {
			return r.MarkHealthy(ctx, &Release{Namespace: "ns", Name: "there", Revision: 1})
		},
		"install": func(ctx context.Context, r *Releases) error {
			_, err := r.Deploy(ctx, DeployRequest{Namespace: "other", Name: "new", Chart: chart})
			return err
		},
		"rollback": func(ctx context.Context, r *Releases) error {
			_, err := r.Rollback(ctx, RollbackRequest{Namespace: "ns", Name: "there", Revision: 1})
			return err
		},
	}
	all := slices.Collect(maps.Keys(operations))
	for what, fault := range map[string]struct {
		methods, path string
		fails         []string // the operations that it stops
	}{
		"no way":                     {fails: all},
		"nothing may be read":        {"GET", "/api", slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name == "mark" })},
		"objects may not be made":    {"POST", "/configmaps", []string{"install"}},
		"objects may not be deleted": {"DELETE", "/configmaps", []string{"uninstall"}},
		"records may not be written": {"POST PUT PATCH", "/secrets", []string{"mark", "install", "upgrade"}},
		"records may not be deleted": {"DELETE", "/secrets", []string{"uninstall"}},
	} {
		for _, name := range fault.fails {
			t.Run(what+", "+name, func(t *testing.T) {
				t.Parallel()
				faulty := server.copy(t)
				faulty.under(func(w http.ResponseWriter, request *http.Request, _ http.HandlerFunc) bool {
					refused := fault.path != "" && strings.Contains(fault.methods, request.Method) && strings.Contains(request.URL.Path, fault.path)
					if refused {
						refuse(w, http.StatusForbidden, metav1.StatusReasonForbidden)
					}
					return refused
				})
				to := way{}
				if fault.path != "" {
					to.host = faulty.URL
				}
				err := operations[name](t.Context(), to.releases(t))
				if err == nil || strings.Count(err.Error(), "cluster rg/prod") != 1 || strings.Contains(err.Error(), ".invalid") {
					t.Errorf("error: %v", err)
				}
				if advice := kube.Advice(err); advice != "A role is missing." {
					t.Errorf("advice on %v: %q", err, advice)
				}
			})
		}
	}
}
