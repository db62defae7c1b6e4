package release

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestDownload(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	const text = "kind: List\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		switch r.URL.Path {
		case "/app.yaml":
			_, _ = w.Write([]byte(text))
		case "/elsewhere":
			http.Redirect(w, r, "http://example.com/app.yaml", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	sum := sha256.Sum256([]byte(text))
	d := NewDownloader()

	for _, pin := range []string{"", hex.EncodeToString(sum[:])} {
		got, err := d.Download(t.Context(), server.URL+"/app.yaml?sig=hunter2", pin)
		if err != nil || got.Text != text || got.Source != server.URL+"/app.yaml" {
			t.Errorf("pin %q: got %+v, %v", pin, got, err)
		}
	}
	if got := requests.Load(); got != 1 {
		t.Errorf("%d requests for one address, want 1", got)
	}

	for address, want := range map[string]string{
		server.URL + "/app.yaml?sig=hunter2":    "instead of 00",
		server.URL + "/absent?sig=hunter2":      "404 Not Found",
		server.URL + "/elsewhere?sig=hunter2":   "http://example.com is not reached by https",
		"http://127.0.0.1:1/app?sig=hunter2":    "cannot be fetched",
		"http://example.com/app?sig=hunter2":    "not reached by https",
		"https://a:hunter2@example.com/app":     "holds credentials",
		"ftp://example.com/app?sig=hunter2":     "not reached by https",
		"/app.yaml?sig=hunter2":                 "not a URL",
		"https://exa mple.com/app?sig=hunter2":  "not a URL",
		"http://127.0.0.1.example.com/?hunter2": "not reached by https",
	} {
		_, err := d.Download(t.Context(), address, "00")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want an error with %q and without the query", address, err, want)
		}
	}
}
