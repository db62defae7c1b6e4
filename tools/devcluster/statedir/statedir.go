// Package statedir gives every running cluster of a user a directory that
// exactly one process owns. A directory whose owner is gone, however it ended,
// is recognised by its released lock and removed by the next one to start.
package statedir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockFile = "lock"
	infoFile = "info.json"

	pollInterval = 50 * time.Millisecond
)

// ErrInUse is returned by Acquire for a name that a live process owns.
var ErrInUse = errors.New("a cluster of this name is running")

// ErrNotFound is returned for a name that no live process owns.
var ErrNotFound = errors.New("no cluster of this name is running")

// A Dir is a directory owned by this process.
type Dir struct {
	path string
	lock *os.File
}

// root returns the directory that holds all state directories of the user,
// creating it when needed.
func root() (string, error) {
	path := filepath.Join(os.TempDir(), "aksmesh-devcluster-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("create state directory: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return "", fmt.Errorf("inspect state directory: %w", err)
	}
	// The parent is world-writable: somebody else's directory of this name, or
	// a link, must not receive our keys.
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("state directory %s is not a directory private to this user", path)
	}
	return path, nil
}

// Acquire removes the directories of dead owners and returns the directory of
// name, empty and owned by this process until Release or the end of the process.
func Acquire(name string) (*Dir, error) {
	if name == "" || name != filepath.Base(name) || name[0] == '.' {
		return nil, fmt.Errorf("invalid cluster name %q", name)
	}
	base, err := root()
	if err != nil {
		return nil, err
	}
	// Creating and locking a directory is not one step, so a directory that
	// looks abandoned may be about to be locked: one process at a time looks.
	guard, err := lock(filepath.Join(base, "."+lockFile), os.O_CREATE, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer guard.Close() //nolint:errcheck // closing releases the lock and cannot lose data

	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, fmt.Errorf("list state directories: %w", err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		path := filepath.Join(base, entry.Name())
		alive, err := owned(path)
		if err != nil {
			return nil, err
		}
		switch {
		case !alive:
			if err := os.RemoveAll(path); err != nil {
				return nil, fmt.Errorf("remove abandoned state directory: %w", err)
			}
		case entry.Name() == name:
			return nil, fmt.Errorf("%w: %q", ErrInUse, name)
		}
	}

	path := filepath.Join(base, name)
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("create state directory: %w", err)
	}
	held, err := lock(filepath.Join(path, lockFile), os.O_CREATE, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return &Dir{path: path, lock: held}, nil
}

// Path returns the absolute path of the directory.
func (d *Dir) Path() string { return d.path }

// Publish stores info as JSON for readers in other processes.
func (d *Dir) Publish(info any) error {
	data, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode cluster information: %w", err)
	}
	// Readers see all of it or nothing.
	partial := filepath.Join(d.path, infoFile+".partial")
	if err := os.WriteFile(partial, data, 0o600); err != nil {
		return fmt.Errorf("write cluster information: %w", err)
	}
	if err := os.Rename(partial, filepath.Join(d.path, infoFile)); err != nil {
		return fmt.Errorf("write cluster information: %w", err)
	}
	return nil
}

// Release removes the directory and gives up its name.
func (d *Dir) Release() error {
	// All at once: whoever no longer finds the lock must not find anything else.
	// What is left by a process that ends right now is abandoned, as any other.
	gone := filepath.Join(filepath.Dir(d.path), "."+filepath.Base(d.path)+".released")
	err := os.RemoveAll(gone)
	if err == nil {
		err = os.Rename(d.path, gone)
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if closeErr := d.lock.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("release state directory: %w", err)
	}
	return nil
}

// Read decodes into info what the live owner of name published. It returns
// ErrNotFound when there is none or it has not published yet.
func Read(name string, info any) error {
	base, err := root()
	if err != nil {
		return err
	}
	path := filepath.Join(base, name)
	alive, err := owned(path)
	if err != nil {
		return err
	}
	if !alive {
		return fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	data, err := os.ReadFile(filepath.Join(path, infoFile)) //nolint:gosec // below the user's own directory
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	if err != nil {
		return fmt.Errorf("read cluster information: %w", err)
	}
	if err := json.Unmarshal(data, info); err != nil {
		return fmt.Errorf("decode cluster information: %w", err)
	}
	return nil
}

// AwaitRelease returns when no live process owns the directory of name, or
// fails when ctx ends first.
func AwaitRelease(ctx context.Context, name string) error {
	base, err := root()
	if err != nil {
		return err
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		alive, err := owned(filepath.Join(base, name))
		if err != nil || !alive {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for cluster %q to end: %w", name, context.Cause(ctx))
		}
	}
}

// owned reports whether a live process owns the directory at path.
func owned(path string) (bool, error) {
	// Shared, so that two who look at once do not take each other for the owner.
	file, err := lock(filepath.Join(path, lockFile), 0, unix.LOCK_SH|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return false, file.Close()
}

// lock opens the file at path with the additional open flags and locks it as
// flock(2) does with how. The lock is held until the file is closed or the
// process ends.
func lock(path string, flags, how int) (*os.File, error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), how); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, nil
}
