package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestAdviceOnConnections(t *testing.T) {
	t.Parallel()
	get := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://login.microsoftonline.com/tenant?hush=hush", Err: err}
	}
	account := newAccount(t, Settings{})
	for _, test := range []struct {
		err     error
		retried bool
		says    string
		advises string
	}{
		{get(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "login.microsoftonline.com", IsNotFound: true}}), false, "GET login.microsoftonline.com: dial tcp: lookup login.microsoftonline.com: no such host", "could not be resolved"},
		{get(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "server misbehaving", Name: "x", IsTemporary: true}}), true, "server misbehaving", "could not be resolved"},
		{get(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}), true, "connection refused", "firewall"},
		{get(&net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}), true, "i/o timeout", "firewall"},
		{get(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}), false, "proxyconnect tcp", "cannot be reached"},
		{get(errors.New(http.StatusText(http.StatusProxyAuthRequired))), false, "the proxy refuses to connect: Proxy Authentication Required", "the credentials that it wants"},
		{get(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), false, "certificate signed by unknown authority", "SSL_CERT_FILE"},
		{get(&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}), false, "expired or is not yet valid", "Set the clock"},
		{get(errors.New("EOF")), true, "GET login.microsoftonline.com: EOF", "could not be reached"},
	} {
		if worthRetrying(nil, test.err) != test.retried {
			t.Errorf("%v: retried is not %t", test.err, test.retried)
		}
		failed := account.failure(request{scope: clusterScope}, fmt.Errorf("no token within a while: %w", test.err))
		advice := Advice(failed)
		if !strings.Contains(failed.Error(), "log in to Azure with Azure CLI: no token within a while: GET ") || !strings.Contains(failed.Error(), test.says) ||
			!strings.Contains(advice, test.advises) || strings.Contains(failed.Error(), "hush") {
			t.Errorf("error: %v\nadvice: %s\nwant %q and %q", failed, advice, test.says, test.advises)
		}
		if !errors.Is(failed, test.err) {
			t.Errorf("%v has lost its cause", failed)
		}
	}
}

func TestAdviceOnWhatIsNoLogin(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("AADSTS700016"), &SettingsError{Reason: "AADSTS700016"}, &LoginError{Code: "AADSTS700016", Err: context.Canceled}} {
		if advice := Advice(err); advice != "" {
			t.Errorf("%v: %s", err, advice)
		}
	}
}

func TestAdviceOnSecondFactor(t *testing.T) {
	t.Parallel()
	failed := newAccount(t, Settings{}).failure(request{}, errors.New("AzureCLICredential.GetToken(): Azure CLI requires multifactor authentication or additional claims. Run this command then retry the operation: az login --claims-challenge e30="))
	if advice := Advice(failed); !strings.Contains(advice, "second factor") {
		t.Error(advice)
	}
}

func TestAdviceOnLoginThatIsOver(t *testing.T) {
	t.Parallel()
	failed := newAccount(t, Settings{}).failure(request{}, errors.New("ERROR: AADSTS50058: A silent sign-in request was sent but no user is signed in."))
	if advice := Advice(failed); !strings.Contains(advice, "Run az login again") {
		t.Error(advice)
	}
}
