package testcluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// buildDevcluster compiles the tool of this checkout, and all that its clusters
// run, into the user's cache directory and returns the path of the tool. It
// takes minutes the first time and about a second when all is up to date.
func buildDevcluster(ctx context.Context, progress io.Writer) (string, error) {
	module, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}

	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache directory for devcluster: %w", err)
	}

	dir := filepath.Join(cache, "aksmesh", "bin")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("create the cache for devcluster: %w", err)
	}

	binary := filepath.Join(dir, "devcluster")

	// Test packages run as processes side by side and would all compile.
	unlock, err := lockFile(ctx, binary+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()

	source := filepath.Join(module, "tools", "devcluster")
	for _, command := range [][]string{
		{"go", "build", "-buildvcs=false", "-o", binary, "."},
		// What a cluster builds only once it needs it would not be there before
		// the client that waits for it gives up.
		{binary, "build"},
	} {
		if err := runIn(ctx, source, progress, command); err != nil {
			return "", fmt.Errorf("build devcluster: %w", err)
		}
	}

	return binary, nil
}

func runIn(ctx context.Context, dir string, progress io.Writer, args []string) error {
	var complaints tailBuffer

	command := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // Only buildDevcluster's own commands.
	command.Dir = dir
	// The same for every caller, race-detecting tests included: with another
	// setting Go would compile all of Kubernetes again.
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.Stderr = io.MultiWriter(&complaints, progress)

	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(args[0]), err, &complaints)
	}

	return nil
}

// moduleDir returns the root of this module. Tests run in the directory of
// their package and the demo in that of its user, both inside the checkout.
func moduleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/aksmesh/terraform-provider-aksmesh").Output()
	if err != nil {
		return "", fmt.Errorf("find the checkout of the provider: %w", err)
	}

	return string(bytes.TrimSpace(out)), nil
}

// lockFile waits until this process alone holds the lock at path.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}

	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()

	for {
		// Closing the file, which the end of the process does too, unlocks it.
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return func() { _ = file.Close() }, nil
		}

		select {
		case <-poll.C:
		case <-ctx.Done():
			_ = file.Close()

			return nil, fmt.Errorf("wait for lock %s: %w", path, ctx.Err())
		}
	}
}
