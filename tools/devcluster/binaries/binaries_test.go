package binaries_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/binaries"
)

// small is a module graph whose commands build in a moment.
func small(progress *bytes.Buffer) binaries.Builder {
	return binaries.Builder{
		GoMod: []byte(`module example.com/small
go 1.26
require k8s.io/kubernetes v1.36.3
replace k8s.io/kubernetes => ./kubernetes
`),
		Progress: progress,
	}
}

func TestBuildOnce(t *testing.T) {
	cache := t.TempDir()
	t.Setenv(binaries.CacheVariable, cache)
	stale, foreign := filepath.Join(cache, "0123456789abcdef"), filepath.Join(cache, "foreign")
	old := time.Now().Add(-365 * 24 * time.Hour)
	for _, dir := range []string{stale, foreign} {
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chtimes(dir, old, old)); err != nil {
			t.Fatal(err)
		}
	}

	// Commands of the standard library need no module.
	const command = "cmd/test2json"
	var (
		progress [3]bytes.Buffer
		paths    [3]string
		builds   sync.WaitGroup
	)
	for i := range progress {
		builds.Go(func() {
			built, err := small(&progress[i]).Build(t.Context(), command)
			if err != nil {
				t.Error(err)
				return
			}
			paths[i] = built[0]
		})
	}
	builds.Wait()
	if t.Failed() {
		t.FailNow()
	}
	compilations := 0
	for i := range progress {
		if progress[i].Len() > 0 {
			compilations++
		}
		if paths[i] != paths[0] {
			t.Errorf("%s and %s", paths[0], paths[i])
		}
	}
	if compilations != 1 {
		t.Errorf("built %d times", compilations)
	}
	if err := exec.CommandContext(t.Context(), paths[0], "-p", "x", "true").Run(); err != nil {
		t.Errorf("run what was built: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(paths[0]), "build-*")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := os.Stat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stale binaries: %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a directory that is none of ours: %v", err)
	}
}

func TestBuildFailureExplains(t *testing.T) {
	t.Setenv(binaries.CacheVariable, t.TempDir())
	_, err := small(&bytes.Buffer{}).Build(t.Context(), "k8s.io/kubernetes/cmd/kubelet")
	if err == nil || !strings.Contains(err.Error(), "cmd/kubelet") || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("got %v", err)
	}
}
