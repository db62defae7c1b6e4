package pki_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// refused fails the test unless err wraps exactly one of the reasons, want if it
// is not nil, and has all of the given words.
func refused(t testing.TB, name string, err, want error, words ...string) {
	t.Helper()
	var reasons []error
	for _, reason := range []error{
		pki.ErrMalformed, pki.ErrEncrypted, pki.ErrUnsupportedKey, pki.ErrKeyMismatch, pki.ErrExpired, pki.ErrNotYetValid,
		pki.ErrNotAuthority, pki.ErrPathLength, pki.ErrCriticalExtension, pki.ErrUntrusted, pki.ErrMeshRule,
	} {
		if errors.Is(err, reason) {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) != 1 || want != nil && !errors.Is(err, want) {
		t.Errorf("%s: error %v has the reasons %v, want %v alone", name, err, reasons, want)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: error %q lacks %q", name, err, word)
		}
	}
}

// file returns a file of another tool.
func file(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", path))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
