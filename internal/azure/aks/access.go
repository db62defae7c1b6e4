package aks

import (
	"context"
	"errors"
	"time"

	"k8s.io/client-go/rest"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

// AccessOptions say how the API server of a cluster is reached.
type AccessOptions struct {
	Admin         bool   // use the local admin account instead of Microsoft Entra ID
	PublicFQDN    bool   // of a private cluster, use the public name of its private address
	ProxyURL      string // http, https or socks5; "" is what the environment says
	TLSServerName string // name expected in the server's certificate, if another than the address
}

// Access is the way to the API server of one cluster.
type Access struct{}

// Credentials are what a client of the API server needs, whichever way it is made.
type Credentials struct {
	Host              string    // URL
	CACertificate     string    // PEM
	Token             string    // of Microsoft Entra ID; "" with a client certificate
	NotAfter          time.Time // when the token or the client certificate expires
	ClientCertificate string    // PEM; "" with a token
	ClientKey         string    // PEM; "" with a token
}

// NewAccess prepares access to a cluster. Nothing is dialled; the error is about
// the options.
func NewAccess(account *azure.Account, id ID, o AccessOptions) (*Access, error) {
	return nil, errors.New("")
}

// String names the cluster in messages: "AKS cluster rg/prod".
func (a *Access) String() string { return "" }

// Cluster is the cluster as ARM describes it, asked for once.
func (a *Access) Cluster(ctx context.Context) (*ManagedCluster, error) { return nil, nil }

// Connect asks ARM for the address of the API server and the way to log in.
func (a *Access) Connect(ctx context.Context) (*rest.Config, error) { return nil, nil }

// Explain says what an error of ARM, Entra or the API server means for this
// cluster and what to do, or "".
func (a *Access) Explain(ctx context.Context, err error) string { return "" }

// Credentials logs in and returns what was got.
func (a *Access) Credentials(ctx context.Context) (Credentials, error) { return Credentials{}, nil }
