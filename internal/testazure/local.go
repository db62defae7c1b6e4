package testazure

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// Local is a registry on loopback that speaks HTTP and asks nobody who he is, for
// mirrors that have nothing to do with Azure.
type Local struct {
	images
	Host string
}

// NewLocal starts a registry for a test.
func NewLocal(t testing.TB) *Local {
	t.Helper()
	made := newImages()
	server := httptest.NewServer(made.handler)
	t.Cleanup(server.Close)
	return &Local{images: made, Host: strings.TrimPrefix(server.URL, "http://")}
}
