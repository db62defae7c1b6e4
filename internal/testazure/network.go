package testazure

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// reach is how a host is reached.
type reach int

const (
	reachable   reach = iota
	unreachable       // the proxy finds nobody
	silent            // the proxy waits forever
)

// network leads connections from the proxy to the server. It is the server's
// listener, so that the server knows which host each connection is for.
type network struct {
	authority   *authority
	known       func(host string) http.HandlerFunc
	authorityOf func(host string) *authority
	accepted    chan net.Conn
	closed      chan struct{}
	closeOnce   sync.Once

	mu        sync.Mutex
	reach     map[string]reach
	open      map[*tunnel]bool
	strangers []string
}

// tunnel is the connection of a client that believes to speak to host.
type tunnel struct {
	net.Conn

	network *network
	host    string
}

// Close implements net.Conn.
func (t *tunnel) Close() error {
	t.network.mu.Lock()
	delete(t.network.open, t)
	t.network.mu.Unlock()
	return t.Conn.Close()
}

func newNetwork(authority *authority, known func(string) http.HandlerFunc, authorityOf func(string) *authority) *network {
	return &network{
		authority: authority, known: known, authorityOf: authorityOf,
		accepted: make(chan net.Conn), closed: make(chan struct{}), reach: map[string]reach{}, open: map[*tunnel]bool{},
	}
}

// Accept implements net.Listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case connection := <-n.accepted:
		return connection, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *network) Close() error {
	n.closeOnce.Do(func() { close(n.closed) })
	return nil
}

// Addr implements net.Listener.
func (*network) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// Strangers returns the unknown hosts that clients looked for.
func (n *network) Strangers() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.strangers)
}

func (*network) base(ctx context.Context) func(net.Listener) context.Context {
	return func(net.Listener) context.Context { return ctx }
}

// cut changes how a host is reached; connections that were open to it end.
func (n *network) cut(host string, how reach) {
	n.mu.Lock()
	n.reach[host] = how
	var ended []*tunnel
	for connection := range n.open {
		if connection.host == host && how != reachable {
			ended = append(ended, connection)
		}
	}
	n.mu.Unlock()
	for _, connection := range ended {
		closeQuietly(connection)
	}
}

// connect is the proxy's CONNECT.
func (n *network) connect(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r.Host)
	known := n.known(host) != nil
	n.mu.Lock()
	how := n.reach[host]
	if !known {
		n.strangers = append(n.strangers, host)
	}
	n.mu.Unlock()
	switch {
	case how == silent:
		hang(w, r)
	case !known || how == unreachable:
		http.Error(w, "host "+host+" is unknown", http.StatusBadGateway)
		return
	}
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		closeQuietly(client)
		return
	}
	connection := &tunnel{Conn: client, network: n, host: host}
	n.mu.Lock()
	n.open[connection] = true
	n.mu.Unlock()
	select {
	case n.accepted <- connection:
	case <-n.closed:
		closeQuietly(connection)
	}
}

// closeQuietly closes a connection that the other side may have closed.
func closeQuietly(connection net.Conn) { _ = connection.Close() }

// TLS returns the server's configuration: each host has its own certificate, and
// those with an own authority may be asked by clients with its certificates.
func (n *network) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			connection, ok := hello.Conn.(*tunnel)
			if !ok {
				return nil, errors.New("the connection did not come through the proxy")
			}
			config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
			signer := n.authorityOf(connection.host)
			if signer == nil {
				signer = n.authority
			} else {
				config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, signer.pool()
			}
			certificate, err := signer.serving(connection.host)
			if err != nil {
				return nil, err
			}
			config.Certificates = []tls.Certificate{certificate}
			return config, nil
		},
	}
}

// transport is for clients in this process that do not have the environment.
func (n *network) transport(proxy string) *http.Transport {
	return &http.Transport{
		Proxy:             func(*http.Request) (*url.URL, error) { return url.Parse(proxy) },
		TLSClientConfig:   &tls.Config{RootCAs: n.authority.pool(), MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]tls.Certificate // serving certificates by host
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificateTemplate(pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	certificate, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: certificate, key: key, leaves: map[string]tls.Certificate{}}, nil
}

// PEM is the authority's own certificate.
func (a *authority) PEM() []byte { return certificatePEM(a.certificate) }

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// serving returns the certificate of a host.
func (a *authority) serving(host string) (tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if leaf, ok := a.leaves[host]; ok {
		return leaf, nil
	}
	template := certificateTemplate(pkix.Name{CommonName: host})
	template.DNSNames = []string{host}
	if strings.HasSuffix(host, clusterSuffix) {
		template.DNSNames = append(template.DNSNames, "kubernetes.default.svc")
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf, err := a.issue(template)
	if err == nil {
		a.leaves[host] = leaf
	}
	return leaf, err
}

// client returns the certificate of a client.
func (a *authority) client(name pkix.Name) (tls.Certificate, error) {
	template := certificateTemplate(name)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

func (a *authority) issue(template *x509.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	leaf, err := sign(template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// certificateTemplate is valid long enough for every test, whichever way it puts
// its clock.
func certificateTemplate(name pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // It never fails.
	return &x509.Certificate{
		SerialNumber: serial, Subject: name,
		NotBefore: time.Now().AddDate(0, -1, 0), NotAfter: time.Now().AddDate(0, 1, 0),
	}
}

func sign(template, parent *x509.Certificate, public, key any) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func certificatePEM(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}
