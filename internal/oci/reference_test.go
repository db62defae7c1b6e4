package oci

import (
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0a", 32)
	for text, want := range map[string]string{
		"nginx":                                "docker.io/library/nginx:latest",
		"istio/proxyv2:1.30.1":                 "docker.io/istio/proxyv2:1.30.1",
		"docker.io/nginx@" + digest:            "docker.io/library/nginx@" + digest,
		"index.docker.io/istio/pilot:1":        "docker.io/istio/pilot:1",
		"ghcr.io/linkerd/proxy:edge-1":         "ghcr.io/linkerd/proxy:edge-1",
		"cr.l5d.io/linkerd/proxy:2@" + digest:  "cr.l5d.io/linkerd/proxy:2@" + digest,
		"localhost/a:b":                        "localhost/a:b",
		"localhost:5000/a/b":                   "localhost:5000/a/b:latest",
		"127.0.0.1:5000/a:b":                   "127.0.0.1:5000/a:b",
		"[::1]:5000/a:b":                       "[::1]:5000/a:b",
		"example.azurecr.io/linkerd/proxy:x_y": "example.azurecr.io/linkerd/proxy:x_y",
	} {
		got, err := ParseReference(text)
		if err != nil || got.String() != want {
			t.Errorf("%s is read as %s (%v), want %s", text, got, err, want)
		}
		again, err := ParseReference(want)
		if err != nil || again != got {
			t.Errorf("%s is read as %+v (%v), want %+v", want, again, err, got)
		}
	}
	for _, text := range []string{
		"", "a:", "a@", "a@sha256:12", "a@" + digest + "0", "ghcr.io/", "ghcr.io/A/b", "a b", "a:b c", "https://ghcr.io/a:b",
		"ghcr.io/a:" + strings.Repeat("x", 129), "ghcr.io//a", "ghcr.io/a:b:c", "ghcr.io/a@" + digest + "@" + digest,
	} {
		if got, err := ParseReference(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		} else if !strings.Contains(err.Error(), text) {
			t.Errorf("the error for %q does not name it: %v", text, err)
		}
	}
}

func TestHostsOnLoopbackAreKnown(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "localhost:1": true, "127.0.0.1:1": true, "[::1]:1": true, "::1": true,
		"localhost.example.com": false, "10.0.0.1:1": false, "ghcr.io": false, "": false,
	} {
		if got := IsLoopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
