package aks

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"golang.org/x/sync/singleflight"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

// AccessOptions say how the API server of a cluster is reached.
type AccessOptions struct {
	Admin         bool   // use the local admin account instead of Microsoft Entra ID
	PublicFQDN    bool   // of a private cluster, use the public name of its private address
	ProxyURL      string // http, https or socks5; "" is what ARM or the environment says
	TLSServerName string // name expected in the server's certificate, if another than that of the address
}

// Access is the way to the API server of one cluster: where it is and how to log
// in is asked of ARM, tokens of Microsoft Entra ID. It is safe for concurrent use
// and meant to live as long as the process.
type Access struct {
	account *azure.Account
	client  *Client
	id      ID
	options AccessOptions
	proxy   *url.URL // nil if the options have none

	looks   singleflight.Group
	seen    atomic.Pointer[ManagedCluster] // when ARM last told
	glanced atomic.Pointer[glance]         // when ARM was last asked
	found   atomic.Pointer[login]          // when Connect last was
}

// NewAccess prepares access to a cluster. Nothing is dialled; the error is about
// the options.
func NewAccess(account *azure.Account, id ID, o AccessOptions) (*Access, error) {
	client, err := NewClient(account)
	if err != nil {
		return nil, err
	}
	a := &Access{account: account, client: client, id: id, options: o}
	if o.ProxyURL != "" {
		// The URL may hold a password, so no message quotes it.
		if a.proxy, err = url.Parse(o.ProxyURL); err != nil || a.proxy.Host == "" {
			return nil, fmt.Errorf("proxy_url is not a URL such as http://proxy.example.com:3128")
		}
	}
	return a, nil
}

// String names the cluster in messages: "AKS cluster rg/prod".
func (a *Access) String() string { return a.id.String() }

// Cluster is the cluster as ARM describes it. It is asked for once, and then again
// only where an error needs an explanation. Errors are explained by [Advice].
func (a *Access) Cluster(ctx context.Context) (*ManagedCluster, error) {
	if seen := a.seen.Load(); seen != nil {
		return seen, nil
	}
	return a.look(ctx)
}

// look asks ARM for the cluster as it is now, once for all who want it at the
// same time.
func (a *Access) look(ctx context.Context) (*ManagedCluster, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // The answer may be there at once, too.
	}
	done := a.looks.DoChan("", func() (any, error) {
		// Who asked first may leave; others still wait for the answer. The client
		// bounds every try and their number.
		seen, err := a.client.Cluster(context.WithoutCancel(ctx), a.id)
		if err == nil {
			a.seen.Store(seen)
		}
		a.glanced.Store(&glance{at: time.Now(), err: err})
		return seen, err
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case result := <-done:
		seen, _ := result.Val.(*ManagedCluster)
		return seen, result.Err
	}
}

// Connect asks ARM for the address of the API server and the way to log in. Every
// request of the configuration then carries a token that is valid when it is made,
// or the client certificate of a cluster without Microsoft Entra ID or of the admin
// account. Errors are explained by [Access.Explain].
func (a *Access) Connect(ctx context.Context) (*rest.Config, error) {
	found, err := a.login(ctx)
	if err != nil {
		return nil, err
	}
	config := &rest.Config{
		Host: found.host,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:     found.ca,
			ServerName: found.serverName,
			CertData:   found.certificate,
			KeyData:    found.key,
		},
	}
	a.found.Store(found)
	if found.proxy != nil {
		config.Proxy = http.ProxyURL(found.proxy)
	}
	if found.scope != "" {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return &bearerTransport{account: a.account, tenant: found.tenant, scope: found.scope, next: next}
		})
	}
	if found.scope != "" && a.account.Patient() {
		if err := a.awaitAdmission(ctx, config); err != nil {
			return nil, err
		}
	}
	return config, nil
}

// Login gets the token that requests by the way which Connect last found need, if
// there is none that lasts. Errors are *azure.LoginError.
func (a *Access) Login(ctx context.Context) error {
	found := a.found.Load()
	if found == nil || found.scope == "" {
		return nil
	}
	_, err := a.account.Token(ctx, found.tenant, found.scope)
	return err
}

// login reads where the API server is and how to log in.
func (a *Access) login(ctx context.Context) (*login, error) {
	var kubeconfig []byte
	err := a.account.AwaitRoles(ctx, lacksRole, func(ctx context.Context) (err error) {
		kubeconfig, err = a.client.kubeconfig(ctx, a.id, a.options.Admin, a.options.PublicFQDN)
		return err
	})
	if err != nil {
		return nil, err
	}
	found, err := readLogin(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the credentials of %s: %w", a.id, err)
	}
	if a.proxy != nil {
		found.proxy = a.proxy
	}
	if a.options.TLSServerName != "" {
		found.serverName = a.options.TLSServerName
	}
	return found, nil
}

// Credentials are what a client of the API server that is made elsewhere needs.
type Credentials struct {
	Host              string    // URL
	CACertificate     string    // PEM
	Token             string    // of Microsoft Entra ID; "" with a client certificate
	ClientCertificate string    // PEM; "" with a token
	ClientKey         string    // PEM; "" with a token
	TLSServerName     string    // expected in the server's certificate; "" if it is that of the host
	ProxyURL          string    // may hold a password; "" if none is named
	NotAfter          time.Time // when the token or the client certificate expires
}

// Credentials logs in and returns what was got. The token may have been got
// earlier and is renewed when it is about to expire. Errors are explained by
// [Access.Explain].
func (a *Access) Credentials(ctx context.Context) (Credentials, error) {
	return a.credentials(ctx, a.account.Token)
}

// Renew is Credentials with a token that was issued for this call. If there is none
// to be had, the one that is in use stays so.
func (a *Access) Renew(ctx context.Context) (Credentials, error) {
	return a.credentials(ctx, a.account.Renew)
}

func (a *Access) credentials(ctx context.Context, issue func(ctx context.Context, tenant, scope string) (azcore.AccessToken, error)) (Credentials, error) {
	found, err := a.login(ctx)
	if err != nil {
		return Credentials{}, err
	}
	got := Credentials{Host: found.host, CACertificate: string(found.ca), TLSServerName: found.serverName}
	if found.proxy != nil {
		got.ProxyURL = found.proxy.String()
	}
	if found.scope == "" {
		certificates, err := certutil.ParseCertsPEM(found.certificate)
		if err != nil {
			return Credentials{}, fmt.Errorf("read the client certificate of %s: %w", a.id, err)
		}
		got.ClientCertificate, got.ClientKey, got.NotAfter = string(found.certificate), string(found.key), certificates[0].NotAfter
		return got, nil
	}
	token, err := issue(ctx, found.tenant, found.scope)
	if err != nil {
		return Credentials{}, err
	}
	got.Token, got.NotAfter = token.Token, token.ExpiresOn
	return got, nil
}
