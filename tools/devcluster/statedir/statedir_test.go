package statedir_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/statedir"
)

func TestOneOwner(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := statedir.Acquire("one")
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Answer int }
	if err := statedir.Read("one", &got); !errors.Is(err, statedir.ErrNotFound) {
		t.Errorf("Read before Publish: %v", err)
	}
	if err := dir.Publish(struct{ Answer int }{42}); err != nil {
		t.Fatal(err)
	}
	if err := statedir.Read("one", &got); err != nil || got.Answer != 42 {
		t.Errorf("Read: %+v, %v", got, err)
	}
	if _, err := statedir.Acquire("one"); !errors.Is(err, statedir.ErrInUse) {
		t.Errorf("second Acquire: %v", err)
	}
	other, err := statedir.Acquire("other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir.Path()); err != nil {
		t.Errorf("the directory of a live owner: %v", err)
	}
	for _, owned := range []*statedir.Dir{dir, other} {
		if err := owned.Release(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(owned.Path()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a released directory: %v", err)
		}
	}
	if err := statedir.AwaitRelease(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	if err := statedir.Read("one", &got); !errors.Is(err, statedir.ErrNotFound) {
		t.Errorf("Read after Release: %v", err)
	}
}

// TestReleaseIsAtOnce has a directory with many files vanish whole, so that
// whoever waits for its lock finds nothing left.
func TestReleaseIsAtOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := statedir.Acquire("many")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := filepath.Glob(filepath.Join(dir.Path(), "*"))
	if err != nil || len(lock) != 1 {
		t.Fatalf("an empty directory has %v, %v", lock, err)
	}
	for i := range 2000 {
		// Before and behind the lock, in any order of deletion.
		if err := os.WriteFile(filepath.Join(dir.Path(), strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir.Path(), "z"+strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	released := make(chan error, 1)
	go func() { released <- dir.Release() }()
	for {
		if _, err := os.Stat(lock[0]); errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	if _, err := os.Stat(dir.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock is gone, and the directory is not: %v", err)
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir.Path()), "*many*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestAbandonedDirectoryIsRemoved(t *testing.T) {
	if path := os.Getenv("STATEDIR_TEST_ABANDON"); path != "" {
		// Ending without Release is what a killed process does.
		if _, err := statedir.Acquire("abandoned"); err != nil {
			t.Fatal(err)
		}
		return
	}
	base := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "TMPDIR="+base, "STATEDIR_TEST_ABANDON=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	abandoned := filepath.Join(base, "aksmesh-devcluster-"+strconv.Itoa(os.Getuid()), "abandoned")
	if _, err := os.Stat(abandoned); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", base)
	dir, err := statedir.Acquire("next")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abandoned); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the abandoned directory: %v", err)
	}
	if err := dir.Release(); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, name := range []string{"", ".", "..", ".lock", "a/b"} {
		if dir, err := statedir.Acquire(name); err == nil {
			t.Errorf("%q was acquired as %s", name, dir.Path())
		}
	}
}

func TestForeignRootIsRefused(t *testing.T) {
	base := t.TempDir()
	t.Setenv("TMPDIR", base)
	if err := os.Symlink(t.TempDir(), filepath.Join(base, "aksmesh-devcluster-"+strconv.Itoa(os.Getuid()))); err != nil {
		t.Fatal(err)
	}
	if _, err := statedir.Acquire("any"); err == nil {
		t.Error("a link was followed")
	}
}
