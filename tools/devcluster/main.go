// Command devcluster runs a Kubernetes cluster for development and tests on
// the loopback interface: a real control plane, simulated nodes that look like
// those of AKS, and service meshes that really inject.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/binaries"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/charts"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/cluster"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/gatewayapi"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/statedir"
)

//go:embed go.mod
var goMod []byte

//go:embed go.sum
var goSum []byte

const (
	defaultName = "default"
	// stopTimeout bounds how long `down` waits.
	stopTimeout = 30 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:               "devcluster",
		Short:             "A Kubernetes cluster for development and tests on the loopback interface",
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(upCommand(), downCommand(), statusCommand(), buildCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		stop()
		os.Exit(1)
	}
}

// upFlags are the flags of `up`.
type upFlags struct {
	cluster.Options
	foreground, json, detached, proxies, gatewayAPI bool
}

func upCommand() *cobra.Command {
	var flags upFlags
	command := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster",
		Long: `Start a cluster and return when it accepts pods. It runs in the background until
"devcluster down".

With --foreground it belongs to this process instead and ends with it, by an
interrupt or in any other way. With --json as well, standard output gets one
line of JSON when the cluster is ready (that of "devcluster status --json") and
the cluster ends when standard input is closed: that is how test harnesses run it.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			flags.Binaries = builder(command.ErrOrStderr())
			if flags.foreground || flags.detached {
				return serve(command, flags)
			}
			return detach(command, flags)
		},
	}
	set := command.Flags()
	set.StringVar(&flags.Name, "name", defaultName, "name of the cluster; clusters of different names run side by side")
	set.IntVar(&flags.Nodes, "nodes", cluster.DefaultNodes, "number of simulated nodes")
	set.StringVar(&flags.Region, "region", cluster.DefaultRegion, "Azure region the nodes say they are in")
	set.StringVar(&flags.Kubeconfig, "kubeconfig", "", "write a copy of the kubeconfig to this path")
	set.BoolVar(&flags.AuditLog, "audit-log", false, "keep a log of all API requests")
	set.BoolVar(&flags.proxies, "proxies", false, "get the proxies of meshed pods certificates, and show them as annotation "+program.IdentityAnnotation)
	set.BoolVar(&flags.gatewayAPI, "gateway-api", false, "install the Gateway API as AKS does for clusters with the managed one")
	set.BoolVar(&flags.foreground, "foreground", false, "run the cluster in this process")
	set.BoolVar(&flags.json, "json", false, "print what \"status --json\" prints")
	set.BoolVar(&flags.detached, "detached", false, "run as the background process of another \"up\"")
	if err := set.MarkHidden("detached"); err != nil {
		panic(err) // the flag is defined above
	}
	return command
}

func downCommand() *cobra.Command {
	var name string
	command := &cobra.Command{
		Use:   "down",
		Short: "Stop a cluster and remove all it has left",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return down(command.Context(), name)
		},
	}
	command.Flags().StringVar(&name, "name", defaultName, "name of the cluster")
	return command
}

func statusCommand() *cobra.Command {
	var (
		name   string
		asJSON bool
	)
	command := &cobra.Command{
		Use:   "status",
		Short: "Describe a running cluster",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			var info cluster.Info
			if err := statedir.Read(name, &info); err != nil {
				return err
			}
			return describe(command.OutOrStdout(), info, asJSON)
		},
	}
	command.Flags().StringVar(&name, "name", defaultName, "name of the cluster")
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

func buildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "build",
		Short: "Build all binaries that clusters may need into the cache",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			paths, err := builder(command.ErrOrStderr()).Build(command.Context(), append(slices.Clone(cluster.Executables), binaries.Istiod)...)
			if err != nil {
				return err
			}
			for _, path := range paths {
				if _, err := fmt.Fprintln(command.OutOrStdout(), path); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// builder builds with the module graph this program was built with.
func builder(progress io.Writer) binaries.Builder {
	return binaries.Builder{GoMod: goMod, GoSum: goSum, Progress: progress}
}

// serve runs a cluster in this process until it is told to end.
func serve(command *cobra.Command, flags upFlags) (err error) {
	ctx, cancel := context.WithCancelCause(command.Context())
	defer cancel(nil)
	if flags.json && !flags.detached {
		go func() {
			_, _ = io.Copy(io.Discard, command.InOrStdin())
			cancel(nil)
		}()
	}
	flags.Programs = append(linkerd.Programs(), istio.Programs(func(ctx context.Context) (string, error) {
		paths, err := flags.Binaries.Build(ctx, binaries.Istiod)
		if err != nil {
			return "", err
		}
		return paths[0], nil
	})...)
	if flags.proxies {
		flags.Proxies = []program.Proxy{linkerd.Proxy{}, istio.Proxy{}}
	}
	if flags.gatewayAPI {
		flags.Prepare = func(ctx context.Context, config *rest.Config) error {
			source, err := flags.Binaries.Source(ctx, gatewayapi.Module)
			if err != nil {
				return err
			}
			return gatewayapi.Install(ctx, config, os.DirFS(source))
		}
	}
	running, err := cluster.Start(ctx, flags.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, running.Stop()) }()

	info := running.Info()
	server, err := startCharts(ctx, flags.Binaries, info.Dir)
	if err != nil {
		return err
	}
	defer server.Stop()
	info.ChartRepository, info.OCIRegistry = server.URL(), server.Registry()
	if err := running.Publish(info); err != nil {
		return err
	}
	if err := describe(command.OutOrStdout(), info, flags.json || flags.detached); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-running.Exited(ctx):
		return err
	}
}

// startCharts serves the charts of both meshes, the Gateway API below
// /gateway-api and the addons of Istio below /istio.
func startCharts(ctx context.Context, builder binaries.Builder, dir string) (*charts.Server, error) {
	archives, err := linkerd.Charts()
	if err != nil {
		return nil, err
	}
	more, err := istio.Charts()
	if err != nil {
		return nil, err
	}
	manifests := map[string][]byte{}
	for module, files := range map[string]func(fs.FS) (map[string][]byte, error){
		gatewayapi.Module: gatewayapi.Manifests,
		istio.Module:      istio.Addons,
	} {
		source, err := builder.Source(ctx, module)
		if err != nil {
			return nil, err
		}
		found, err := files(os.DirFS(source))
		if err != nil {
			return nil, err
		}
		maps.Copy(manifests, found)
	}
	return charts.Start(ctx, charts.Options{
		Archives: append(archives, more...), Manifests: manifests, Dir: filepath.Join(dir, "charts"),
	})
}

// detach starts a cluster in another process and returns when it is ready.
func detach(command *cobra.Command, flags upFlags) error {
	ctx := command.Context()
	// Here, where the user sees the progress.
	if _, err := flags.Binaries.Build(ctx, cluster.Executables...); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	errorsFile, err := os.CreateTemp("", "devcluster-*.log")
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	defer os.Remove(errorsFile.Name()) //nolint:errcheck // it is in the directory for temporary files
	defer errorsFile.Close()           //nolint:errcheck // only the child writes to it

	child := exec.Command(self, append(os.Args[1:], "--detached")...) //nolint:gosec // this program itself
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Stderr = errorsFile
	output, err := child.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	interrupted := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) })
	defer interrupted()
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		_ = child.Wait()
		complaint, _ := os.ReadFile(errorsFile.Name())
		return fmt.Errorf("start in the background: %s", strings.TrimPrefix(strings.TrimSpace(string(complaint)), "devcluster: "))
	}
	var info cluster.Info
	if err := json.Unmarshal(line, &info); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	return describe(command.OutOrStdout(), info, flags.json)
}

// down ends the owner of the cluster called name and returns when all is gone.
func down(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var info cluster.Info
	if err := statedir.Read(name, &info); err != nil {
		return err
	}
	if err := syscall.Kill(info.PID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end process %d: %w", info.PID, err)
	}
	return statedir.AwaitRelease(ctx, name)
}

// describe prints info for people or, as one line of JSON, for programs.
func describe(w io.Writer, info cluster.Info, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(info)
	}
	_, err := fmt.Fprintf(w, `Kubernetes %s is ready: API after %s, nodes after %s.

  Charts      %s
  Registry    oci://%s/charts
  Logs        %s

  export KUBECONFIG=%s
`, info.Versions["kubernetes"], duration(info.ReadyAfter), duration(info.StartedAfter),
		info.ChartRepository, info.OCIRegistry, info.Dir, info.Kubeconfig)
	return err
}

func duration(milliseconds int64) time.Duration {
	return time.Duration(milliseconds) * time.Millisecond
}
