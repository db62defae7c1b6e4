package testcluster

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeDevcluster writes a script that stands in for the devcluster command:
// it prints stdout's line, complains on stderr, and ends with its input.
func fakeDevcluster(t *testing.T, stdout, end string) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), "devcluster")
	script := "#!/bin/sh\necho 'starting etcd' >&2\n" + stdout + "\n" + end + "\n"

	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}

	return path
}

func TestLaunchReadsEndpointsAndEndsWithItsInput(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	kubeconfig, ended := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "ended")

	const config = `{"apiVersion":"v1","kind":"Config","current-context":"c",` +
		`"contexts":[{"name":"c","context":{"cluster":"c"}}],` +
		`"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}]}`
	if err := os.WriteFile(kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	binary := fakeDevcluster(t,
		`echo '{"kubeconfig":"`+kubeconfig+`","chartRepository":"http://r","ociRegistry":"o:1","auditLog":"a"}'`,
		"cat; echo done > "+ended)

	c, err := launch(t.Context(), binary, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}

	if c.Kubeconfig() != kubeconfig || c.Charts() != (ChartLocations{Repository: "http://r", OCIRegistry: "o:1"}) {
		t.Errorf("got %+v", c.endpoints)
	}

	if err := c.Close(); err != nil {
		t.Error(err)
	}

	if _, err := os.Stat(ended); err != nil {
		t.Errorf("Close returned before devcluster had ended: %v", err)
	}
}

func TestLaunchFailureShowsWhatDevclusterWrote(t *testing.T) {
	t.Parallel()

	_, err := launch(t.Context(), fakeDevcluster(t, "", "exit 3"), nil, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "starting etcd") {
		t.Errorf("got %v", err)
	}
}

func TestLaunchEndsWithItsContext(t *testing.T) {
	t.Parallel()

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()

	_, err := launch(ctx, fakeDevcluster(t, "", "cat"), nil, io.Discard)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline", err)
	}
}

func TestTailBufferKeepsTheEnd(t *testing.T) {
	t.Parallel()

	var tail tailBuffer

	for range 3 {
		if _, err := tail.Write([]byte(strings.Repeat("x", tailSize))); err != nil {
			t.Fatal(err)
		}
	}

	if _, err := tail.Write([]byte("the end\n")); err != nil {
		t.Fatal(err)
	}

	if got := tail.String(); len(got) != tailSize-1 || !strings.HasSuffix(got, "the end") {
		t.Errorf("kept %d bytes ending in %q", len(got), got[len(got)-10:])
	}
}
