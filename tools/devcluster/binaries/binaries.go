// Package binaries gets what the cluster needs out of Go modules: it builds
// their commands and keeps them in a cache outside any repository, and it finds
// their files.
package binaries

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/sys/unix"
)

// The commands a cluster may run, by package path.
const (
	APIServer         = "k8s.io/kubernetes/cmd/kube-apiserver"
	ControllerManager = "k8s.io/kubernetes/cmd/kube-controller-manager"
	Scheduler         = "k8s.io/kubernetes/cmd/kube-scheduler"
	Istiod            = "istio.io/istio/pilot/cmd/pilot-discovery"
)

// CacheVariable is the environment variable that overrides where binaries are kept.
const CacheVariable = "AKSMESH_DEVCLUSTER_CACHE"

const (
	kubernetesModule = "k8s.io/kubernetes"
	// progressInterval is how often a build says on a terminal how far it is,
	// logInterval how often elsewhere.
	progressInterval = 2 * time.Second
	logInterval      = 30 * time.Second
	// workPattern matches the directories that builds work in.
	workPattern = "build-*"
	// keyLength is the length of the directory names in the cache, in hexadecimal digits.
	keyLength = 16
	// staleAfter is how long binaries of other versions are kept unused.
	staleAfter = 30 * 24 * time.Hour
)

// A Builder builds commands with the module graph of one go.mod and go.sum.
type Builder struct {
	// GoMod and GoSum are the contents of the files of those names.
	GoMod, GoSum []byte
	// Progress receives one line that is rewritten while a build runs if it is
	// a terminal, and otherwise a line now and then.
	Progress io.Writer
}

// KubernetesVersion returns the version of Kubernetes that the graph names,
// such as "v1.36.3".
func (b Builder) KubernetesVersion() (string, error) {
	file, err := modfile.ParseLax("go.mod", b.GoMod, nil)
	if err != nil {
		return "", fmt.Errorf("parse go.mod: %w", err)
	}
	for _, require := range file.Require {
		if require.Mod.Path == kubernetesModule {
			return require.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("go.mod does not require %s", kubernetesModule)
}

// Build returns the paths of the executables of packages, in their order,
// building in one go those that are not in the cache yet. Concurrent calls, in
// this process or another, build nothing twice.
func (b Builder) Build(ctx context.Context, packages ...string) ([]string, error) {
	flags, err := b.linkFlags()
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, b.key(flags))
	paths := make([]string, len(packages))
	for i, pkg := range packages {
		paths[i] = filepath.Join(dir, path.Base(pkg))
	}
	if len(missing(packages, paths)) == 0 {
		// The age of a directory is when it was last used.
		now := time.Now()
		return paths, os.Chtimes(dir, now, now)
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create binary cache: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if left := missing(packages, paths); len(left) > 0 {
		if err := removeUnfinished(dir); err != nil {
			return nil, err
		}
		if err := b.build(ctx, dir, flags, left); err != nil {
			return nil, err
		}
	}
	return paths, removeStale(cache, dir)
}

// Source returns the directory that holds the files of a module of the graph,
// in Go's own cache, downloading it first if need be. They are read-only.
func (b Builder) Source(ctx context.Context, module string) (string, error) {
	work, err := os.MkdirTemp("", "devcluster-source-")
	if err != nil {
		return "", fmt.Errorf("create directory: %w", err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // it is in the directory for temporary files
	if err := b.writeModule(work); err != nil {
		return "", err
	}
	var complaints strings.Builder
	cmd := goCommand(ctx, work, "mod", "download", "-json", "--", module)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download module %s: %w\n%s", module, err, complaints.String())
	}
	var downloaded struct{ Dir string }
	if err := json.Unmarshal(out, &downloaded); err != nil {
		return "", fmt.Errorf("download module %s: %w", module, err)
	}
	return downloaded.Dir, nil
}

// writeModule makes dir the root of a module with the graph of b.
func (b Builder) writeModule(dir string) error {
	for name, data := range map[string][]byte{"go.mod": b.GoMod, "go.sum": b.GoSum} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// build compiles packages and moves the executables into dir.
func (b Builder) build(ctx context.Context, dir, flags string, packages []string) error {
	// Below dir, so that a finished executable can be renamed into place.
	work, err := os.MkdirTemp(dir, workPattern)
	if err != nil {
		return fmt.Errorf("create build directory: %w", err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // the next build removes a leftover
	out := filepath.Join(work, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		return fmt.Errorf("create build directory: %w", err)
	}
	if err := b.writeModule(work); err != nil {
		return err
	}

	total, err := count(ctx, work, packages)
	if err != nil {
		return err
	}
	if err := b.compile(ctx, work, out, flags, total, packages); err != nil {
		return err
	}
	for _, pkg := range packages {
		name := path.Base(pkg)
		if err := os.Rename(filepath.Join(out, name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("keep %s: %w", name, err)
		}
	}
	return nil
}

// compile runs the Go compiler and reports its progress out of total packages.
func (b Builder) compile(ctx context.Context, work, out, flags string, total int, packages []string) error {
	names := make([]string, len(packages))
	for i, pkg := range packages {
		names[i] = path.Base(pkg)
	}
	// Without -trimpath: the compiled packages are then those of this tool's
	// own build and need not be compiled again.
	args := []string{"build", "-v", "-mod=readonly", "-buildvcs=false", "-ldflags", flags, "-o", out + string(filepath.Separator)}
	cmd := goCommand(ctx, work, append(args, packages...)...)
	output, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("read build output: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run the go command: %w", err)
	}

	var compiled atomic.Int64
	started := time.Now()
	begin, end, interval := "", "\n", logInterval
	if terminal(b.Progress) {
		begin, end, interval = "\r", " ", progressInterval
	}
	report := func() {
		fmt.Fprintf(b.Progress, "%sbuilding %s: %d of at most %d packages, %s%s", begin,
			strings.Join(names, ", "), compiled.Load(), total, time.Since(started).Round(time.Second), end)
	}
	report()
	finished := make(chan struct{})
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				report()
			case <-finished:
				report()
				if begin != "" {
					fmt.Fprintln(b.Progress)
				}
				return
			}
		}
	}()

	// With -v the compiler prints the path of each package it compiles; what
	// else it prints explains a failure.
	var complaints []string
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if strings.ContainsAny(lines.Text(), " \t") {
			complaints = append(complaints, lines.Text())
			continue
		}
		compiled.Add(1)
	}
	err = cmd.Wait()
	close(finished)
	<-reported
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", strings.Join(names, ", "), err, strings.Join(complaints, "\n"))
	}
	return nil
}

// linkFlags returns the -ldflags that give the commands their version, which
// they report to clients and charts check.
func (b Builder) linkFlags() (string, error) {
	kubernetes, err := b.KubernetesVersion()
	if err != nil {
		return "", err
	}
	major, rest, found := strings.Cut(strings.TrimPrefix(kubernetes, "v"), ".")
	minor, _, foundMinor := strings.Cut(rest, ".")
	if !found || !foundMinor {
		return "", fmt.Errorf("unexpected Kubernetes version %q", kubernetes)
	}
	const version = "k8s.io/component-base/version"
	flags := []string{"-s", "-w"}
	for _, variable := range []string{
		version + ".gitVersion=" + kubernetes,
		version + ".gitMajor=" + major,
		version + ".gitMinor=" + minor,
		version + ".gitTreeState=clean",
	} {
		flags = append(flags, "-X", variable)
	}
	return strings.Join(flags, " "), nil
}

// key names everything the executables depend on.
func (b Builder) key(flags string) string {
	hash := sha256.New()
	for _, part := range []string{runtime.Version(), runtime.GOOS, runtime.GOARCH, flags, string(b.GoMod), string(b.GoSum)} {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil))[:keyLength]
}

// cacheDir returns the directory that holds the binaries of all versions.
func cacheDir() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache directory (set %s): %w", CacheVariable, err)
	}
	return filepath.Join(dir, "aksmesh-devcluster"), nil
}

// missing returns the packages whose executable does not exist.
func missing(packages, paths []string) []string {
	var left []string
	for i, pkg := range packages {
		if _, err := os.Stat(paths[i]); err != nil {
			left = append(left, pkg)
		}
	}
	return left
}

// removeUnfinished removes what killed builds have left in dir, which is locked.
func removeUnfinished(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, workPattern))
	if err != nil {
		return fmt.Errorf("list unfinished builds: %w", err)
	}
	for _, work := range left {
		if err := os.RemoveAll(work); err != nil {
			return fmt.Errorf("remove unfinished build: %w", err)
		}
	}
	return nil
}

// count returns how many packages the executables are made of.
func count(ctx context.Context, work string, packages []string) (int, error) {
	var complaints strings.Builder
	cmd := goCommand(ctx, work, append([]string{"list", "-mod=readonly", "-deps", "--"}, packages...)...)
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("list what %s is made of: %w\n%s", strings.Join(packages, ", "), err, complaints.String())
	}
	return strings.Count(string(out), "\n"), nil
}

// goCommand prepares the go command to run in the module at work alone.
func goCommand(ctx context.Context, work string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // arguments are made by this package
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "GOWORK=off", "PWD="+work, "CGO_ENABLED=0")
	return cmd
}

// lock waits until this process holds the lock at path.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open build lock: %w", err)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for another build: %w", ctx.Err())
		}
	}
}

// removeStale removes the binaries of other versions that nobody used lately.
func removeStale(cache, current string) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return fmt.Errorf("list binary cache: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list binary cache: %w", err)
		}
		dir := filepath.Join(cache, entry.Name())
		// The user may have named a directory that holds other things too.
		if _, err := hex.DecodeString(entry.Name()); err != nil || len(entry.Name()) != keyLength {
			continue
		}
		if dir == current || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove stale binaries: %w", err)
		}
	}
	return nil
}

// terminal tells a terminal from a file or pipe, in which rewriting a line only
// makes it long.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
