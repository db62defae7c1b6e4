package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// mirroredVersion is the version under which Terraform finds the provider.
const mirroredVersion = "0.0.1"

// errNotEmpty means that a plan would change something.
var errNotEmpty = errors.New("the plan is not empty")

// workspace is a directory in which Terraform or OpenTofu runs one
// configuration with the provider that was built here. The network is not used.
type workspace struct {
	terraform string
	dir       string
	env       []string
}

// newWorkspace copies the examples into dir and initialises one of them there,
// so that no state is left in the checkout. Variables are set from the
// environment.
func newWorkspace(ctx context.Context, terraform, provider, examples, example, dir string, variables map[string]string) (*workspace, error) {
	copied := filepath.Join(dir, "examples")
	w := &workspace{terraform: terraform, dir: filepath.Join(copied, example)}

	// A mirror serves the binary as a registry would, and so without the
	// warnings of a development override.
	mirror := filepath.Join(dir, "mirror")
	for _, host := range []string{"registry.terraform.io", "registry.opentofu.org"} {
		at := filepath.Join(mirror, host, "aksmesh", "aksmesh", mirroredVersion, runtime.GOOS+"_"+runtime.GOARCH)
		if err := os.MkdirAll(at, 0o700); err != nil {
			return nil, fmt.Errorf("lay out the provider mirror: %w", err)
		}

		if err := os.Symlink(provider, filepath.Join(at, "terraform-provider-aksmesh_v"+mirroredVersion)); err != nil {
			return nil, fmt.Errorf("lay out the provider mirror: %w", err)
		}
	}

	settings := filepath.Join(dir, "terraformrc")
	if err := os.WriteFile(settings, fmt.Appendf(nil, "provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror), 0o600); err != nil {
		return nil, fmt.Errorf("write the Terraform settings: %w", err)
	}

	// The user's own settings for Terraform or for a cluster must not leak in.
	w.env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "TF_") || strings.HasPrefix(variable, "KUBE")
	})
	w.env = append(w.env, "TF_CLI_CONFIG_FILE="+settings, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")

	for name, value := range variables {
		w.env = append(w.env, "TF_VAR_"+name+"="+value)
	}

	if err := copyConfigurations(examples, copied); err != nil {
		return nil, err
	}

	return w, w.run(ctx, nil, "init", "-input=false")
}

// copyConfigurations copies a tree of configurations and of the manifests that
// they read, as they are: what Terraform may have left beside them belongs to
// somebody else's cluster.
func copyConfigurations(from, to string) error {
	source := os.DirFS(from)

	return fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("copy the configuration: %w", err)
		}

		if entry.IsDir() {
			if strings.HasPrefix(entry.Name(), ".") && name != "." {
				return fs.SkipDir
			}

			return os.MkdirAll(filepath.Join(to, filepath.FromSlash(name)), 0o700)
		}

		if extension := filepath.Ext(name); extension != ".tf" && extension != ".yaml" {
			return nil
		}

		content, err := fs.ReadFile(source, name)
		if err != nil {
			return fmt.Errorf("copy the configuration: %w", err)
		}

		return os.WriteFile(filepath.Join(to, filepath.FromSlash(name)), content, 0o600)
	})
}

// apply makes the cluster what the configuration says and shows the progress.
func (w *workspace) apply(ctx context.Context, progress io.Writer) error {
	const plan = "demo.tfplan"
	if err := w.run(ctx, nil, "plan", "-input=false", "-no-color", "-out="+plan); err != nil {
		return err
	}

	return w.run(ctx, progress, "apply", "-input=false", "-no-color", "-compact-warnings", plan)
}

// planEmpty returns errNotEmpty, with what Terraform printed, when another
// apply would change something.
func (w *workspace) planEmpty(ctx context.Context) error {
	err := w.run(ctx, nil, "plan", "-input=false", "-no-color", "-detailed-exitcode")

	// Terraform's exit code 2 means a plan that succeeded and is not empty.
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return fmt.Errorf("%w: %w", errNotEmpty, err)
	}

	return err
}

// run runs one command. The output goes to progress or, when that is nil, into
// the error of a command that fails.
func (w *workspace) run(ctx context.Context, progress io.Writer, args ...string) error {
	var output bytes.Buffer

	command := exec.CommandContext(ctx, w.terraform, args...) //nolint:gosec // The user names the binary.
	command.Dir = w.dir
	command.Env = w.env
	command.Stdout, command.Stderr = &output, &output

	if progress != nil {
		command.Stdout = progress
	}
	// Terraform saves its state when it is interrupted and not when it is killed.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second

	if err := command.Run(); err != nil {
		return fmt.Errorf("terraform %s: %w\n%s", args[0], err, output.Bytes())
	}

	return nil
}
