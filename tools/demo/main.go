// Command demo walks through what the provider does, on a fresh embedded
// cluster: it lets Terraform bring in certificates, a mesh, Dgraph in the mesh,
// a client in it and one outside, and a mesh-only policy, shows what is in the
// cluster then and which client gets through, and proves that a second plan is
// empty.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// walkthrough is what differs between the demos of the meshes.
type walkthrough struct {
	title        string
	mesh         mesh.Mesh
	controlPlane string
	// arrival is the port at which a meshed client's connections to a port of a
	// meshed pod arrive; 0 means at that port itself.
	arrival int32
	// certificates returns the PEM trust bundle and the PEM issuer in force.
	certificates func(context.Context, kubernetes.Interface) (anchors, issuer []byte, err error)
}

// The namespaces of the application.
const (
	databaseNamespace = "dgraph"
	insideNamespace   = "pydgraph-allow"
	outsideNamespace  = "pydgraph-deny"
)

func walkthroughs() map[string]walkthrough {
	return map[string]walkthrough{
		"linkerd": {
			title:        "Dgraph behind Linkerd",
			mesh:         linkerd.Injection{Namespace: linkerd.DefaultNamespace},
			controlPlane: linkerd.DefaultNamespace,
			arrival:      4143, // The proxy takes them all.
			certificates: linkerdCertificates,
		},
		"istio": {
			title:        "Dgraph behind Istio",
			mesh:         istio.Injection{Namespace: istio.DefaultNamespace},
			controlPlane: istio.DefaultNamespace,
			certificates: istioCertificates,
		},
	}
}

func linkerdCertificates(ctx context.Context, client kubernetes.Interface) (anchors, issuer []byte, err error) {
	bundle, err := client.CoreV1().ConfigMaps(linkerd.DefaultNamespace).
		Get(ctx, "linkerd-identity-trust-roots", metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("read the trust bundle: %w", err)
	}

	secret, err := client.CoreV1().Secrets(linkerd.DefaultNamespace).
		Get(ctx, "linkerd-identity-issuer", metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("read the issuer: %w", err)
	}

	// The issuer is in one of two forms: Linkerd's own or Kubernetes'.
	issuer = secret.Data["crt.pem"]
	if issuer == nil {
		issuer = secret.Data["tls.crt"]
	}

	return []byte(bundle.Data["ca-bundle.crt"]), issuer, nil
}

func istioCertificates(ctx context.Context, client kubernetes.Interface) (anchors, issuer []byte, err error) {
	secret, err := client.CoreV1().Secrets(istio.DefaultNamespace).Get(ctx, "cacerts", metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("read the plug-in CA: %w", err)
	}

	return secret.Data["root-cert.pem"], secret.Data["ca-cert.pem"], nil
}

// options are the command line.
type options struct {
	mesh      string
	provider  string
	terraform string
	keep      bool
}

func main() {
	var opts options

	flag.StringVar(&opts.mesh, "mesh", "linkerd", "linkerd or istio")
	flag.StringVar(&opts.provider, "provider", "bin/terraform-provider-aksmesh", "`path` of the provider's binary")
	flag.StringVar(&opts.terraform, "terraform", "terraform", "Terraform or OpenTofu to run")
	flag.BoolVar(&opts.keep, "keep", false, "leave the cluster up")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, opts, os.Stdout, os.Stderr)

	stop()

	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, opts options, out, progress io.Writer) (err error) {
	story, ok := walkthroughs()[opts.mesh]
	if !ok {
		return fmt.Errorf("no demo of %q: choose one of %s", opts.mesh,
			strings.Join(slices.Sorted(maps.Keys(walkthroughs())), ", "))
	}

	provider, err := filepath.Abs(opts.provider)
	if err != nil {
		return fmt.Errorf("find the provider: %w", err)
	}

	started := time.Now()

	fmt.Fprintf(out, "%s, on a fresh embedded cluster.\n", story.title)
	fmt.Fprintln(out, "The Kubernetes API is real; nodes and pods are simulated, so no image is pulled or run.")

	start := testcluster.Options{Nodes: 3, NoGatewayAPI: true, Keep: opts.keep, Progress: progress}
	if opts.keep {
		start.Name = "demo-" + opts.mesh
	}

	cluster, err := testcluster.Start(ctx, start)
	if err != nil {
		return err
	}

	dir, err := os.MkdirTemp("", "aksmesh-demo-")
	if err != nil {
		return errors.Join(fmt.Errorf("create a working directory: %w", err), cluster.Close())
	}

	defer func() {
		if opts.keep {
			fmt.Fprintf(out, "\nexport KUBECONFIG=%s\nThe configuration and its state are in %s.\nTo stop the cluster: %s\n",
				cluster.Kubeconfig(), dir, cluster.StopCommand())

			return
		}

		err = errors.Join(err, cluster.Close(), os.RemoveAll(dir))
	}()

	if err := walk(ctx, opts, story, cluster, provider, dir, out); err != nil {
		return err
	}

	fmt.Fprintf(out, "\nDone in %s.\n", time.Since(started).Round(time.Second))

	return nil
}

// walk applies the configuration and shows the result.
func walk(ctx context.Context, opts options, story walkthrough, cluster *testcluster.Cluster, provider, dir string, out io.Writer) error {
	const examples = "examples"

	demo := filepath.Join("demo", opts.mesh)

	fmt.Fprintf(out, "\nterraform apply: %s\n", filepath.Join(examples, demo, "main.tf"))

	workspace, err := newWorkspace(ctx, opts.terraform, provider, examples, demo, dir, map[string]string{
		"kubeconfig":       cluster.Kubeconfig(),
		"chart_repository": cluster.Charts().Repository,
		// Each demo declares those that it needs.
		"gateway_api_source": cluster.Charts().GatewayAPI("1.5.1"),
		"addons_source":      cluster.Charts().IstioSource("1.31.0"),
	})
	if err != nil {
		return err
	}

	if err := workspace.apply(ctx, out); err != nil {
		return err
	}

	fmt.Fprintf(out, "\n%s, as the cluster shows it\n", story.title)

	if err := summarise(ctx, cluster.Client(), story, out); err != nil {
		return err
	}

	fmt.Fprint(out, "\nterraform plan, a second time: ")

	if err := workspace.planEmpty(ctx); err != nil {
		return err
	}

	fmt.Fprintln(out, "no changes.")

	return nil
}
