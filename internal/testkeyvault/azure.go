// Package testkeyvault stands in for the keys of Azure Key Vault, version 7 of
// its REST API, and for the part of Microsoft Entra ID that gives tokens to
// client secrets.
//
// Both are TLS servers on loopback. An HTTP proxy leads *.vault.azure.net and
// login.microsoftonline.com to them and knows no other host, so that unmodified
// clients of Azure find them by their environment alone. Go reads that
// environment once per process: a test that runs a client in its own process
// calls Start and sets Environ in TestMain, a test that runs one as a child
// process calls New.
package testkeyvault

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

const (
	vaultSuffix = ".vault.azure.net"
	loginHost   = "login.microsoftonline.com"
	// audience is what the tokens of vaults are for.
	audience = "https://vault.azure.net"

	tenantID = "7e57ab1e-0000-4000-8000-000000000001"
	clientID = "7e57ab1e-0000-4000-8000-000000000002"
)

// ClientSecret is the secret of the one application that may log in. It has
// every character that URIs, forms and shells treat specially.
const ClientSecret = `test~&=;?#%41+ /"'secret` //nolint:gosec // It opens nothing but this double.

// Azure is a tenant with its vaults.
type Azure struct {
	server *httptest.Server
	proxy  *httptest.Server
	// stop ends what hangs.
	stop      context.CancelFunc
	directory string

	mu        sync.Mutex
	vaults    map[string]*Vault
	tokens    map[string]bool
	strangers []string
}

// Start starts a tenant without vaults; Close it. What hangs ends with ctx.
func Start(ctx context.Context) (*Azure, error) {
	ctx, stop := context.WithCancel(ctx)
	a := &Azure{stop: stop, vaults: map[string]*Vault{}, tokens: map[string]bool{}}
	var (
		certificates []tls.Certificate
		roots        []byte
	)
	for _, host := range []string{"*" + vaultSuffix, loginHost} {
		certificate, root, err := selfSigned(host)
		if err != nil {
			stop()
			return nil, err
		}
		certificates = append(certificates, certificate)
		roots = append(append(roots, root...), '\n')
	}
	directory, err := os.MkdirTemp("", "testkeyvault-")
	if err != nil {
		stop()
		return nil, err
	}
	a.directory = directory
	if err := os.WriteFile(a.roots(), roots, 0o600); err != nil {
		stop()
		return nil, errors.Join(err, os.RemoveAll(directory))
	}

	a.server = httptest.NewUnstartedServer(http.HandlerFunc(a.serve))
	a.server.TLS = &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12}
	a.server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	// Clients that were told to give up reset their connections.
	a.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.server.StartTLS()
	a.proxy = httptest.NewServer(http.HandlerFunc(a.connect))
	return a, nil
}

// Close ends the servers and every request that hangs.
func (a *Azure) Close() error {
	a.stop()
	a.proxy.Close()
	a.server.CloseClientConnections()
	a.server.Close()
	return os.RemoveAll(a.directory)
}

// Environ returns the variables, as `NAME=value`, by which a process finds this
// Azure and may log in: to be put behind those of os.Environ.
func (a *Azure) Environ() []string {
	return []string{
		"HTTPS_PROXY=" + a.proxy.URL,
		"NO_PROXY=",
		"no_proxy=",
		"SSL_CERT_FILE=" + a.roots(),
		"ARM_ENVIRONMENT=public",
		"ARM_TENANT_ID=" + tenantID,
		"ARM_CLIENT_ID=" + clientID,
		"ARM_CLIENT_SECRET=" + ClientSecret,
	}
}

// Vault makes an empty vault under a name that no other has.
func (a *Azure) Vault() *Vault {
	v := newVault(a, "test-"+strings.ReplaceAll(uuid.NewString(), "-", "")[:16])
	a.mu.Lock()
	defer a.mu.Unlock()
	a.vaults[v.name] = v
	return v
}

// Strangers returns the hosts that clients looked for beside this Azure, in the
// order of their attempts.
func (a *Azure) Strangers() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.strangers)
}

// New starts an Azure with one empty vault, for the time of the test.
func New(t testing.TB) *Vault {
	t.Helper()
	azure, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := azure.Close(); err != nil {
			t.Error(err)
		}
	})
	return azure.Vault()
}

func (a *Azure) roots() string { return filepath.Join(a.directory, "roots.pem") }

// connect is the proxy: it leads to the server whom the client believes to be
// Azure.
func (a *Azure) connect(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil || r.Method != http.MethodConnect {
		http.Error(w, "this proxy only connects", http.StatusMethodNotAllowed)
		return
	}
	if host != loginHost && a.vault(host) == nil {
		a.mu.Lock()
		a.strangers = append(a.strangers, host)
		a.mu.Unlock()
		http.Error(w, "host "+host+" is unknown", http.StatusBadGateway)
		return
	}
	var dialer net.Dialer
	upstream, err := dialer.DialContext(r.Context(), "tcp", a.server.Listener.Addr().String())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer closeQuietly(upstream)
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer closeQuietly(client)
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// The end of either direction is the end of both.
	done := make(chan struct{}, 2)
	for _, direction := range [][2]net.Conn{{upstream, client}, {client, upstream}} {
		go func() {
			_, _ = io.Copy(direction[0], direction[1]) // Ends by an error whenever a test does.
			done <- struct{}{}
		}()
	}
	<-done
}

// closeQuietly closes a connection that the other side may have closed.
func closeQuietly(connection net.Conn) { _ = connection.Close() }

func (a *Azure) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // The client is gone.
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.Host == loginHost {
		a.login(w, r)
		return
	}
	v := a.vault(r.Host)
	if v == nil {
		http.NotFound(w, r)
		return
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !a.valid(token) {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization=%q, resource=%q", "https://"+loginHost+"/"+tenantID, audience))
		refuse(w, http.StatusUnauthorized, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token.")
		return
	}
	v.serve(w, r, body)
}

// login is Entra ID, as far as a client secret needs it.
func (a *Azure) login(w http.ResponseWriter, r *http.Request) {
	base := "https://" + loginHost + "/" + tenantID
	switch r.URL.Path {
	case "/common/discovery/instance":
		answer(w, http.StatusOK, map[string]any{
			"tenant_discovery_endpoint": base + "/v2.0/.well-known/openid-configuration",
			"api-version":               "1.1",
			"metadata": []map[string]any{{
				"preferred_network": loginHost,
				"preferred_cache":   "login.windows.net",
				"aliases":           []string{loginHost, "login.windows.net", "login.microsoft.com", "sts.windows.net"},
			}},
		})
	case "/" + tenantID + "/v2.0/.well-known/openid-configuration":
		answer(w, http.StatusOK, map[string]any{
			"token_endpoint":         base + "/oauth2/v2.0/token",
			"authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"issuer":                 base + "/v2.0",
		})
	case "/" + tenantID + "/oauth2/v2.0/token":
		a.token(w, r)
	default:
		tenant, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		refuseLogin(w, http.StatusBadRequest, "invalid_tenant",
			fmt.Sprintf("AADSTS90002: Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant))
	}
}

func (a *Azure) token(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.PostFormValue("grant_type") != "client_credentials":
		refuseLogin(w, http.StatusBadRequest, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
	case r.PostFormValue("client_id") != clientID:
		refuseLogin(w, http.StatusBadRequest, "unauthorized_client",
			fmt.Sprintf("AADSTS700016: Application with identifier '%s' was not found in the directory '%s'.", r.PostFormValue("client_id"), tenantID))
	case r.PostFormValue("client_secret") != ClientSecret:
		refuseLogin(w, http.StatusUnauthorized, "invalid_client",
			fmt.Sprintf("AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", clientID))
	case !strings.HasPrefix(r.PostFormValue("scope"), audience+"/.default"):
		refuseLogin(w, http.StatusBadRequest, "invalid_scope", "AADSTS70011: The provided value for the input parameter 'scope' is not valid.")
	default:
		token := uuid.NewString()
		a.mu.Lock()
		a.tokens[token] = true
		a.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token})
	}
}

func (a *Azure) valid(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens[token]
}

// vault returns the vault at a host name, nil if there is none.
func (a *Azure) vault(host string) *Vault {
	name, ok := strings.CutSuffix(host, vaultSuffix)
	if !ok {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.vaults[name]
}

func selfSigned(host string) (tls.Certificate, []byte, error) {
	pair, err := pki.NewServingCertificate(pki.ServingOptions{DNSName: host, Now: time.Now()})
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	key, err := pair.KeyPEM()
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	certificate, err := tls.X509KeyPair(pair.CertificatePEM(), key)
	return certificate, pair.CertificatePEM(), err
}

func answer(w http.ResponseWriter, status int, body any) {
	content, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(content) // The client may be gone.
}

// refuse answers as vaults do.
func refuse(w http.ResponseWriter, status int, code, inner, message string) {
	refusal := map[string]any{"code": code, "message": message}
	if inner != "" {
		refusal["innererror"] = map[string]any{"code": inner}
	}
	answer(w, status, map[string]any{"error": refusal})
}

// refuseLogin answers as Entra ID does.
func refuseLogin(w http.ResponseWriter, status int, code, description string) {
	answer(w, status, map[string]any{
		"error":             code,
		"error_description": description + " Trace ID: 00000000-0000-0000-0000-000000000000 Correlation ID: 00000000-0000-0000-0000-000000000000 Timestamp: 2026-01-01 00:00:00Z",
	})
}
