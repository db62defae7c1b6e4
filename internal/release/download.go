package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/retry"
)

const (
	downloadTimeout = time.Minute
	// A record would not hold more, compressed.
	maxManifestBytes = 32 << 20
)

// Downloader fetches manifests over HTTPS, each once. It may be used
// concurrently.
type Downloader struct {
	client *http.Client

	mu      sync.Mutex
	fetched map[string]string // by address
}

// NewDownloader prepares a downloader. It does not touch the network.
func NewDownloader() *Downloader {
	client := retry.NewClient() // Throttled and failing requests are repeated with growing pauses.
	client.Timeout = downloadTimeout
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > 10 {
			return errors.New("it is redirected too often")
		}
		return checkTransport(req.URL)
	}
	return &Downloader{client: client, fetched: map[string]string{}}
}

// CheckAddress tells whether manifests can be fetched from an address, without
// trying it. The error does not quote what could hold a password.
func CheckAddress(address string) error {
	location, err := url.Parse(address)
	switch {
	case err != nil || location.Host == "":
		return errors.New("it is not a URL such as https://example.com/app.yaml")
	case location.User != nil:
		return errors.New("it holds credentials, which would be kept in the state; fetch the manifest by other means and give its text")
	}
	return checkTransport(location)
}

// checkTransport allows plain HTTP to this machine only.
func checkTransport(location *url.URL) error {
	ip := net.ParseIP(location.Hostname())
	if location.Scheme == "https" || location.Scheme == "http" && ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s://%s is not reached by https", location.Scheme, location.Host)
}

// Download returns the manifest at an address. If a pin is given, the SHA-256 of
// the bytes in hexadecimal, another content is an error. The error wraps
// [fs.ErrNotExist] if there is nothing at the address.
func (d *Downloader) Download(ctx context.Context, address, pin string) (Manifest, error) {
	source := shown(address)
	text, err := d.text(ctx, address)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w", source, err)
	}
	sum := sha256.Sum256([]byte(text))
	if got := hex.EncodeToString(sum[:]); pin != "" && got != pin {
		return Manifest{}, fmt.Errorf("manifest %s has the SHA-256 %s instead of %s; look at what has changed before you pin it anew", source, got, pin)
	}
	return Manifest{Source: source, Text: text}, nil
}

func (d *Downloader) text(ctx context.Context, address string) (string, error) {
	d.mu.Lock()
	text, ok := d.fetched[address]
	d.mu.Unlock()
	if ok {
		return text, nil
	}
	if err := CheckAddress(address); err != nil {
		return "", err
	}
	text, err := d.fetch(ctx, address)
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched[address] = text
	return text, nil
}

func (d *Downloader) fetch(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", errors.New("it is not a URL")
	}
	response, err := d.client.Do(request)
	if err != nil {
		// The client's own words quote the address, and its query may be a secret.
		if told, ok := errors.AsType[*url.Error](err); ok {
			err = told.Err
		}
		return "", fmt.Errorf("it cannot be fetched: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return "", fmt.Errorf("the server answers %s: %w", response.Status, fs.ErrNotExist)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("it cannot be fetched: the server answers %s", response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxManifestBytes+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("it cannot be fetched: %w", err)
	case len(text) > maxManifestBytes:
		return "", fmt.Errorf("it has more than %d MiB", maxManifestBytes>>20)
	}
	return string(text), nil
}

// shown is an address without its query, which may be a secret.
func shown(address string) string {
	location, err := url.Parse(address)
	if err != nil {
		return "at an address that is not a URL"
	}
	return (&url.URL{Scheme: location.Scheme, Host: location.Host, Path: location.Path}).String()
}
