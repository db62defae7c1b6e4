package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

const kubeconfig = `
apiVersion: v1
kind: Config
current-context: one
contexts:
- {name: one, context: {cluster: c1, user: u1}}
- {name: two, context: {cluster: c2, user: u2}}
clusters:
- {name: c1, cluster: {server: "https://one.example:6443"}}
- {name: c2, cluster: {server: "https://two.example:6443", tls-server-name: two}}
users:
- {name: u1, user: {token: token-one}}
- {name: u2, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: kubelogin, interactiveMode: IfAvailable}}}
`

func TestEachEnvironmentVariable(t *testing.T) {
	t.Parallel()
	for variable, test := range map[string]struct {
		value string
		got   func(Settings) string
	}{
		"KUBE_CONFIG_PATH":          {"/a", func(s Settings) string { return strings.Join(s.ConfigPaths, "|") }},
		"KUBE_CTX":                  {"two", func(s Settings) string { return s.Context }},
		"KUBE_CTX_AUTH_INFO":        {"u2", func(s Settings) string { return s.User }},
		"KUBE_CTX_CLUSTER":          {"c2", func(s Settings) string { return s.Cluster }},
		"KUBE_HOST":                 {"https://h", func(s Settings) string { return s.Host }},
		"KUBE_CLUSTER_CA_CERT_DATA": {"ca", func(s Settings) string { return s.CACertificate }},
		"KUBE_CLIENT_CERT_DATA":     {"cert", func(s Settings) string { return s.ClientCertificate }},
		"KUBE_CLIENT_KEY_DATA":      {"key", func(s Settings) string { return s.ClientKey }},
		"KUBE_TOKEN":                {"t", func(s Settings) string { return s.Token }},
		"KUBE_USER":                 {"u", func(s Settings) string { return s.Username }},
		"KUBE_PASSWORD":             {"p", func(s Settings) string { return s.Password }},
		"KUBE_TLS_SERVER_NAME":      {"n", func(s Settings) string { return s.TLSServerName }},
		"KUBE_PROXY_URL":            {"http://p", func(s Settings) string { return s.ProxyURL }},
		"KUBE_INSECURE": {"true", func(s Settings) string {
			if s.insecure() {
				return "true"
			}
			return ""
		}},
	} {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			s, err := Settings{}.WithEnvironment(environment(variable, test.value))
			if err != nil || test.got(s) != test.value {
				t.Errorf("got %q, %v", test.got(s), err)
			}
			if s, err := (Settings{}).WithEnvironment(environment()); err != nil || test.got(s) != "" {
				t.Errorf("without it: %q, %v", test.got(s), err)
			}
		})
	}
	s, err := Settings{}.WithEnvironment(environment("KUBE_CONFIG_PATHS", "/a"+string(os.PathListSeparator)+"/b"))
	if err != nil || !slices.Equal(s.ConfigPaths, []string{"/a", "/b"}) {
		t.Errorf("KUBE_CONFIG_PATHS: %q, %v", s.ConfigPaths, err)
	}
	_, err = Settings{}.WithEnvironment(environment("KUBE_INSECURE", "maybe"))
	var wrong *SettingsError
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "KUBE_INSECURE") {
		t.Errorf("KUBE_INSECURE=maybe: %v", err)
	}
}

func TestTheEnvironmentNeverContradictsWhatIsSet(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	all := environment(
		"KUBE_CONFIG_PATH", "/env", "KUBE_CONFIG_PATHS", "/env1", "KUBE_CTX", "envctx", "KUBE_HOST", "https://env",
		"KUBE_CLUSTER_CA_CERT_DATA", "envca", "KUBE_CLIENT_CERT_DATA", "envcert", "KUBE_CLIENT_KEY_DATA", "envkey",
		"KUBE_TOKEN", "envtoken", "KUBE_USER", "envuser", "KUBE_PASSWORD", "envpassword", "KUBE_INSECURE", "true", "KUBE_PROXY_URL", "http://envproxy",
	)
	for name, test := range map[string]struct {
		set  Settings
		want []string // settings that hold something afterwards
	}{
		"kubeconfig":        {Settings{ConfigPaths: []string{"/x"}}, []string{"config_paths", "config_context", "insecure", "proxy_url"}},
		"content":           {Settings{Config: "x"}, []string{"config_content", "config_context", "insecure", "proxy_url"}},
		"host and token":    {Settings{Host: "https://x", Token: "x"}, []string{"host", "cluster_ca_certificate", "token", "insecure", "proxy_url"}},
		"host and CA":       {Settings{Host: "https://x", CACertificate: "x", Exec: &Exec{}}, []string{"host", "cluster_ca_certificate", "exec", "proxy_url"}},
		"half a pair":       {Settings{Host: "https://x", Username: "x"}, []string{"host", "cluster_ca_certificate", "username", "password", "insecure", "proxy_url"}},
		"only a credential": {Settings{ClientKey: "x"}, []string{"host", "cluster_ca_certificate", "client_certificate", "client_key", "insecure", "proxy_url"}},
		"insecure":          {Settings{Host: "https://x", Token: "x", Insecure: &yes}, []string{"host", "token", "insecure", "proxy_url"}},
		"not insecure":      {Settings{Host: "https://x", Token: "x", Insecure: &no}, []string{"host", "cluster_ca_certificate", "token", "insecure", "proxy_url"}},
		"in cluster":        {Settings{InCluster: true}, []string{"in_cluster"}},
		"access":            {Settings{Access: leadingTo("")}, []string{"access"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := test.set.WithEnvironment(all)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, entry := range settingsTable() {
				if entry.isSet(&s) && !slices.Contains(got, entry.name) {
					got = append(got, entry.name)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if test.set.Token != "" && s.Token != "x" || test.set.Insecure != nil && s.Insecure != test.set.Insecure || len(test.set.ConfigPaths) > 0 && s.ConfigPaths[0] != "/x" {
				t.Error("something that was set was replaced")
			}
		})
	}
}

func TestExactlyOneWay(t *testing.T) {
	t.Parallel()
	yes := true
	exec := &Exec{APIVersion: "client.authentication.k8s.io/v1", Command: "kubelogin"}
	env := func(pairs ...string) Settings {
		s, err := Settings{}.WithEnvironment(environment(pairs...))
		if err != nil {
			panic(err)
		}
		return s
	}
	for name, test := range map[string]struct {
		settings Settings
		names    []string // at fault; nil means valid
		text     string
	}{
		"nothing":                    {Settings{}, []string{}, "nothing is set"},
		"only a context":             {Settings{Context: "x"}, []string{"config_context"}, "config_context"},
		"only a token from env":      {env("KUBE_TOKEN", "x"), []string{"token"}, "token (from KUBE_TOKEN)"},
		"files and content":          {Settings{ConfigPaths: []string{"/x"}, Config: "x"}, []string{"config_paths", "config_content"}, "more than one way"},
		"files and host":             {Settings{ConfigPaths: []string{"/x"}, Host: "x"}, []string{"config_paths", "host"}, "more than one way"},
		"content and host":           {Settings{Config: "x", Host: "x"}, []string{"config_content", "host"}, "more than one way"},
		"host and in cluster":        {Settings{Host: "x", InCluster: true}, []string{"host", "in_cluster"}, "more than one way"},
		"both from the environment":  {env("KUBE_HOST", "x", "KUBE_CONFIG_PATH", "/x"), []string{"config_paths", "host"}, "config_paths (from KUBE_CONFIG_PATH), host (from KUBE_HOST)"},
		"files and token":            {Settings{ConfigPaths: []string{"/x"}, Token: "x"}, []string{"token"}, "kubeconfig"},
		"content and CA":             {Settings{Config: "x", CACertificate: "x"}, []string{"cluster_ca_certificate"}, "kubeconfig"},
		"content and exec":           {Settings{Config: "x", Exec: exec}, []string{"exec"}, "kubeconfig"},
		"host and context":           {Settings{Host: "x", Context: "x"}, []string{"config_context"}, "host is given"},
		"token and exec":             {Settings{Host: "x", Token: "x", Exec: exec}, []string{"token", "exec"}, "more than one kind of credential"},
		"token and certificate":      {Settings{Host: "x", Token: "x", ClientCertificate: "x", ClientKey: "x"}, []string{"token", "client_certificate", "client_key"}, "more than one kind"},
		"password and token":         {Settings{Host: "x", Token: "x", Username: "x", Password: "x"}, []string{"token", "username", "password"}, "more than one kind"},
		"certificate without key":    {Settings{Host: "x", ClientCertificate: "x"}, []string{"client_certificate"}, "both be given"},
		"key without certificate":    {Settings{Host: "x", ClientKey: "x"}, []string{"client_key"}, "both be given"},
		"username without password":  {Settings{Host: "x", Username: "x"}, []string{"username"}, "both be given"},
		"CA and insecure":            {Settings{Host: "x", CACertificate: "x", Insecure: &yes}, []string{"cluster_ca_certificate", "insecure"}, "either verified or not"},
		"exec without a command":     {Settings{Host: "x", Exec: &Exec{APIVersion: "v1"}}, []string{"exec"}, "command"},
		"in cluster and token":       {Settings{InCluster: true, Token: "x"}, []string{"token"}, "service account"},
		"in cluster and proxy":       {Settings{InCluster: true, ProxyURL: "x"}, []string{"proxy_url"}, "service account"},
		"access and token":           {Settings{Access: leadingTo(""), Token: "x"}, []string{"token"}, "cluster rg/prod says itself"},
		"access and host":            {Settings{Access: leadingTo(""), Host: "x"}, []string{"host", "access"}, "more than one way"},
		"access":                     {Settings{Access: leadingTo("")}, nil, ""},
		"files":                      {Settings{ConfigPaths: []string{"/x"}, Context: "x", User: "x", Cluster: "x", ProxyURL: "x", Insecure: &yes, TLSServerName: "x"}, nil, ""},
		"content alone":              {Settings{Config: "x"}, nil, ""},
		"host alone":                 {Settings{Host: "x"}, nil, ""},
		"host and token":             {Settings{Host: "x", Token: "x", CACertificate: "x"}, nil, ""},
		"host and exec":              {Settings{Host: "x", Exec: exec, Insecure: &yes}, nil, ""},
		"host and client cert":       {Settings{Host: "x", ClientCertificate: "x", ClientKey: "x"}, nil, ""},
		"in cluster":                 {Settings{InCluster: true}, nil, ""},
		"host from the environment":  {env("KUBE_HOST", "x", "KUBE_TOKEN", "y"), nil, ""},
		"files from the environment": {env("KUBE_CONFIG_PATHS", "/x", "KUBE_CTX", "y"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.settings.Validate()
			if test.names == nil {
				if err != nil {
					t.Errorf("error: %v", err)
				}
				return
			}
			var wrong *SettingsError
			if !errors.As(err, &wrong) || !slices.Equal(wrong.Names, test.names) && len(wrong.Names)+len(test.names) > 0 || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error: %#v", err)
			}
			if _, err := Connect(test.settings, "kube-test"); !errors.As(err, &wrong) {
				t.Errorf("connect: %v", err)
			}
		})
	}
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	withoutContext := strings.Replace(kubeconfig, "current-context: one", "", 1)
	for name, test := range map[string]struct {
		settings    Settings
		host, token string
		text        string
	}{
		"file":              {settings: Settings{ConfigPaths: []string{path}}, host: "https://one.example:6443", token: "token-one"},
		"content":           {settings: Settings{Config: kubeconfig}, host: "https://one.example:6443", token: "token-one"},
		"context":           {settings: Settings{Config: kubeconfig, Context: "two"}, host: "https://two.example:6443"},
		"cluster":           {settings: Settings{Config: kubeconfig, Cluster: "c2"}, host: "https://two.example:6443", token: "token-one"},
		"user":              {settings: Settings{Config: kubeconfig, Context: "two", User: "u1"}, host: "https://two.example:6443", token: "token-one"},
		"user and cluster":  {settings: Settings{Config: withoutContext, User: "u1", Cluster: "c1"}, host: "https://one.example:6443", token: "token-one"},
		"unknown context":   {settings: Settings{Config: kubeconfig, Context: "three"}, text: `no context "three"; its contexts: one, two`},
		"no context":        {settings: Settings{Config: withoutContext}, text: "no current context; set config_context to one of its contexts: one, two"},
		"unknown user":      {settings: Settings{Config: kubeconfig, User: "nobody"}, text: "nobody"},
		"missing file":      {settings: Settings{ConfigPaths: []string{path, path + "-missing"}}, text: "-missing"},
		"not a kubeconfig":  {settings: Settings{Config: "{token: secret-thing"}, text: "config_content: not the content of a kubeconfig file"},
		"empty kubeconfig":  {settings: Settings{Config: "apiVersion: v1\nkind: Config\n"}, text: "contexts: none"},
		"context sans host": {settings: Settings{Config: strings.Replace(kubeconfig, `server: "https://one.example:6443"`, "", 1)}, text: `no server for cluster "c1"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := test.settings.restConfig()
			if test.text != "" {
				if err == nil || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "secret-thing") {
					t.Errorf("error: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if config.Host != test.host || config.BearerToken != test.token {
				t.Errorf("host %q, token %q", config.Host, config.BearerToken)
			}
			if config.ExecProvider != nil && !config.ExecProvider.StdinUnavailable {
				t.Error("the plugin could ask for input")
			}
			if _, err := Connect(test.settings, "kube-test"); err != nil {
				t.Errorf("connect: %v", err)
			}
		})
	}
}

func TestHome(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.WriteFile(filepath.Join(home, "config"), []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Settings{ConfigPaths: []string{"~/config"}}).restConfig(); err != nil {
		t.Error(err)
	}
	if got, err := expandHome("~other/config"); err != nil || got != "~other/config" {
		t.Errorf("another's home: %q, %v", got, err)
	}
	// A kubeconfig in its usual place is not used unless it is asked for.
	if err := os.Mkdir(filepath.Join(home, ".kube"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".kube", "config"), []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(home, "config"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := Connect(Settings{}, "kube-test"); err == nil {
		t.Error("a cluster was assumed")
	}
	if _, err := Connect(Settings{Config: "apiVersion: v1\nkind: Config\n"}, "kube-test"); err == nil {
		t.Error("a cluster was assumed")
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	certificate, key := selfSigned(t)
	for name, test := range map[string]struct {
		settings Settings
		host     string
		fault    string
	}{
		"scheme is https":       {settings: Settings{Host: "api.example:6443", Token: "x"}, host: "https://api.example:6443"},
		"plain if asked for":    {settings: Settings{Host: "http://127.0.0.1:8001"}, host: "http://127.0.0.1:8001"},
		"certificates":          {settings: Settings{Host: "https://x", CACertificate: certificate, ClientCertificate: certificate, ClientKey: key}, host: "https://x"},
		"proxy":                 {settings: Settings{Host: "https://x", ProxyURL: "http://proxy:3128"}, host: "https://x"},
		"not a URL":             {settings: Settings{Host: "https://"}, fault: "host"},
		"another scheme":        {settings: Settings{Host: "ftp://x"}, fault: "host"},
		"CA is not PEM":         {settings: Settings{Host: "https://x", CACertificate: "LS0tLS1CRUdJTi"}, fault: "cluster_ca_certificate"},
		"key of somebody else":  {settings: Settings{Host: "https://x", ClientCertificate: certificate, ClientKey: "x"}, fault: "client_certificate"},
		"proxy is not a URL":    {settings: Settings{Host: "https://x", ProxyURL: "proxy"}, fault: "proxy_url"},
		"proxy cannot be split": {settings: Settings{Host: "https://x", ProxyURL: "http://[::1"}, fault: "proxy_url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := Connect(test.settings, "kube-test")
			var wrong *SettingsError
			if test.fault != "" {
				if !errors.As(err, &wrong) || wrong.Names[0] != test.fault {
					t.Errorf("error: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Host() != test.host || c.RESTConfig().QPS != -1 {
				t.Errorf("host %q, QPS %v", c.Host(), c.RESTConfig().QPS)
			}
		})
	}
}

func TestConnectDoesNotDial(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dialled := make(chan struct{}, 1)
	go func() {
		if _, err := listener.Accept(); err == nil {
			dialled <- struct{}{}
		}
		close(dialled)
	}()
	c, err := Connect(Settings{Host: "https://" + listener.Addr().String()}, "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	if c.Mapper() == nil || c.Discovery() == nil {
		t.Error("no mapper or discovery")
	}
	if _, err := c.KindFor(t.Context(), Deployment.GVK()); err != nil {
		t.Error(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, yes := <-dialled; yes {
		t.Error("it dialled")
	}
}

// selfSignedName is the host that selfSigned certificates are for.
const selfSignedName = "api.example.com"

func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{selfSignedName}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))
}
