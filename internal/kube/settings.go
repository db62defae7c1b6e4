package kube

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"
)

// DefaultRequestTimeout bounds a single request when [Settings] names no limit.
const DefaultRequestTimeout = 30 * time.Second

// Settings say how a cluster is reached. Exactly one way must be chosen:
// kubeconfig files, kubeconfig content, a host, the service account of the pod
// that the process runs in, or an [Access]. Nothing is guessed: no ~/.kube/config, no
// localhost and no in-cluster address unless it is asked for.
type Settings struct {
	ConfigPaths []string // kubeconfig files, merged as KUBECONFIG would be; "~" is expanded
	Config      string   // content of a kubeconfig file
	Context     string   // context to use instead of the current one of the kubeconfig
	User        string   // user of the kubeconfig to use instead of the context's
	Cluster     string   // cluster of the kubeconfig to use instead of the context's

	Host              string // URL of the API server; https unless it says otherwise
	CACertificate     string // PEM
	ClientCertificate string // PEM
	ClientKey         string // PEM
	Token             string
	Username          string
	Password          string
	Exec              *Exec

	InCluster bool

	Access Access

	Insecure       *bool         // do not verify the server's certificate
	TLSServerName  string        // name expected in the server's certificate
	ProxyURL       string        // http, https or socks5
	RequestTimeout time.Duration // limit of every single request; 0 is DefaultRequestTimeout

	variables map[string]string // environment variable by the name of the setting it filled
}

// Exec is a client-go credential plugin.
type Exec struct {
	APIVersion string // client.authentication.k8s.io/v1 or v1beta1
	Command    string
	Args       []string
	Env        map[string]string
}

// SettingsError reports settings from which no single way to reach a cluster
// follows. Names holds the settings at fault as [Settings] error texts call
// them, for example "host" or "config_paths".
type SettingsError struct {
	Names  []string
	Reason string
}

func (e *SettingsError) Error() string { return e.Reason }

// Names of the settings in messages; the same words as the hashicorp/kubernetes
// provider uses where it has them, because that is what users know.
const (
	settingConfigPaths = "config_paths"
	settingConfig      = "config_content"
	settingContext     = "config_context"
	settingUser        = "config_context_auth_info"
	settingCluster     = "config_context_cluster"
	settingHost        = "host"
	settingCA          = "cluster_ca_certificate"
	settingClientCert  = "client_certificate"
	settingClientKey   = "client_key"
	settingToken       = "token"
	settingUsername    = "username"
	settingPassword    = "password"
	settingExec        = "exec"
	settingInCluster   = "in_cluster"
	settingAccess      = "access"
	settingInsecure    = "insecure"
	settingServerName  = "tls_server_name"
	settingProxy       = "proxy_url"
)

// area says which way of access a setting belongs to.
type area int

const (
	areaConfig area = iota // kubeconfig
	areaHost               // host, CA
	areaToken              // host, and this kind of credential
	areaCert               // …
	areaBasic              // …
	areaExec               // …
	areaTuning             // any way that leaves something to say
	areaWhole              // says all by itself
)

func (a area) credential() bool { return a >= areaToken && a <= areaExec }
func (a area) host() bool       { return a == areaHost || a.credential() }

type setting struct {
	name     string
	area     area
	variable string // fallback from the environment, "" if there is none
	isSet    func(*Settings) bool
	set      func(*Settings, string) error
}

func text(name string, area area, variable string, field func(*Settings) *string) setting {
	return setting{
		name: name, area: area, variable: variable,
		isSet: func(s *Settings) bool { return *field(s) != "" },
		set:   func(s *Settings, v string) error { *field(s) = v; return nil },
	}
}

// settings is the one table from which conflicts, messages and environment
// fallbacks follow. The order is that of messages and, where two variables
// fill one setting, of precedence.
func settingsTable() []setting {
	paths := func(s *Settings) bool { return len(s.ConfigPaths) > 0 }
	return []setting{
		{settingConfigPaths, areaConfig, "KUBE_CONFIG_PATH", paths, func(s *Settings, v string) error {
			s.ConfigPaths = []string{v}
			return nil
		}},
		{settingConfigPaths, areaConfig, "KUBE_CONFIG_PATHS", paths, func(s *Settings, v string) error {
			s.ConfigPaths = filepath.SplitList(v)
			return nil
		}},
		text(settingConfig, areaConfig, "", func(s *Settings) *string { return &s.Config }),
		text(settingContext, areaConfig, "KUBE_CTX", func(s *Settings) *string { return &s.Context }),
		text(settingUser, areaConfig, "KUBE_CTX_AUTH_INFO", func(s *Settings) *string { return &s.User }),
		text(settingCluster, areaConfig, "KUBE_CTX_CLUSTER", func(s *Settings) *string { return &s.Cluster }),
		text(settingHost, areaHost, "KUBE_HOST", func(s *Settings) *string { return &s.Host }),
		text(settingCA, areaHost, "KUBE_CLUSTER_CA_CERT_DATA", func(s *Settings) *string { return &s.CACertificate }),
		text(settingClientCert, areaCert, "KUBE_CLIENT_CERT_DATA", func(s *Settings) *string { return &s.ClientCertificate }),
		text(settingClientKey, areaCert, "KUBE_CLIENT_KEY_DATA", func(s *Settings) *string { return &s.ClientKey }),
		text(settingToken, areaToken, "KUBE_TOKEN", func(s *Settings) *string { return &s.Token }),
		text(settingUsername, areaBasic, "KUBE_USER", func(s *Settings) *string { return &s.Username }),
		text(settingPassword, areaBasic, "KUBE_PASSWORD", func(s *Settings) *string { return &s.Password }),
		{settingExec, areaExec, "", func(s *Settings) bool { return s.Exec != nil }, nil},
		{settingInCluster, areaWhole, "", func(s *Settings) bool { return s.InCluster }, nil},
		{settingAccess, areaWhole, "", func(s *Settings) bool { return s.Access != nil }, nil},
		{settingInsecure, areaTuning, "KUBE_INSECURE", func(s *Settings) bool { return s.Insecure != nil }, func(s *Settings, v string) error {
			insecure, err := strconv.ParseBool(v)
			if err != nil {
				return &SettingsError{Names: []string{settingInsecure}, Reason: fmt.Sprintf("environment variable KUBE_INSECURE: %q is neither true nor false", v)}
			}
			s.Insecure = &insecure
			return nil
		}},
		text(settingServerName, areaTuning, "KUBE_TLS_SERVER_NAME", func(s *Settings) *string { return &s.TLSServerName }),
		text(settingProxy, areaTuning, "KUBE_PROXY_URL", func(s *Settings) *string { return &s.ProxyURL }),
	}
}

// WithEnvironment returns the settings completed from the KUBE_* variables that
// the hashicorp/kubernetes and hashicorp/helm providers read. What is set stays
// as it is, and a variable is used only if it belongs to the way of access that
// is already chosen: with a host set KUBE_CONFIG_PATH has no effect, with a
// token set KUBE_CLIENT_CERT_DATA has none. The error names a variable whose
// value cannot be read.
func (s Settings) WithEnvironment(getenv func(string) string) (Settings, error) {
	var config, host, whole bool
	credential := areaTuning
	table := settingsTable()
	for _, entry := range table {
		if !entry.isSet(&s) {
			continue
		}
		config = config || entry.area == areaConfig
		host = host || entry.area.host()
		whole = whole || entry.area == areaWhole
		if entry.area.credential() {
			credential = entry.area
		}
	}
	explicit := s
	s.variables = maps.Clone(s.variables)
	for _, entry := range table {
		var contradicted bool
		switch {
		case entry.variable == "" || entry.isSet(&s) || whole:
			contradicted = true
		case entry.area == areaConfig:
			// Content and files are two ways to give the same thing.
			contradicted = host || entry.name == settingConfigPaths && s.Config != ""
		case entry.area.credential():
			contradicted = config || credential != areaTuning && credential != entry.area
		case entry.area.host():
			contradicted = config || entry.name == settingCA && explicit.Insecure != nil && *explicit.Insecure
		case entry.name == settingInsecure:
			contradicted = explicit.CACertificate != ""
		}
		value := getenv(entry.variable)
		if contradicted || value == "" {
			continue
		}
		if err := entry.set(&s, value); err != nil {
			return Settings{}, err
		}
		if s.variables == nil {
			s.variables = map[string]string{}
		}
		s.variables[entry.name] = entry.variable
	}
	return s, nil
}

// Validate reports whether exactly one way to reach a cluster follows from the
// settings; the error is a *SettingsError. Neither files nor network are
// touched.
func (s Settings) Validate() error {
	given := map[area][]string{}
	var all []string
	for _, entry := range settingsTable() {
		if entry.isSet(&s) && !slices.Contains(all, entry.name) {
			given[entry.area] = append(given[entry.area], entry.name)
			all = append(all, entry.name)
		}
	}
	conflict := func(reason string, names ...string) error {
		return &SettingsError{Names: names, Reason: fmt.Sprintf("%s: %s", reason, s.describe(names))}
	}

	var ways []string
	for _, way := range []string{settingConfigPaths, settingConfig, settingHost, settingInCluster, settingAccess} {
		if slices.Contains(all, way) {
			ways = append(ways, way)
		}
	}
	if len(ways) == 0 {
		found := "nothing is set"
		if len(all) > 0 {
			found = "set, but not enough alone: " + s.describe(all)
		}
		return &SettingsError{Names: all, Reason: fmt.Sprintf(
			"no way to reach a cluster is given: set one of %s, %s, %s or %s (or the environment variable KUBE_CONFIG_PATH, KUBE_CONFIG_PATHS or KUBE_HOST); %s; ~/.kube/config, localhost and the cluster that this process may run in are never assumed",
			settingConfigPaths, settingConfig, settingHost, settingInCluster, found)}
	}
	if len(ways) > 1 {
		return conflict("more than one way to reach a cluster is given, set only one of", ways...)
	}

	var credentials []string
	for area := areaToken; area <= areaExec; area++ {
		if len(given[area]) > 0 {
			credentials = append(credentials, given[area]...)
		}
	}
	switch ways[0] {
	case settingInCluster, settingAccess:
		if len(all) > 1 {
			reason := "in_cluster takes everything from the pod's service account and cannot be combined with"
			if ways[0] == settingAccess {
				reason = s.Access.String() + " says itself how it is reached, which cannot be combined with"
			}
			return conflict(reason, slices.DeleteFunc(all, func(name string) bool { return name == ways[0] })...)
		}
		return nil
	case settingConfigPaths, settingConfig:
		if others := append(given[areaHost], credentials...); len(others) > 0 {
			return conflict("server and credentials come from the kubeconfig, so these cannot be set beside "+s.describe(ways), others...)
		}
		return nil
	}

	kinds := 0
	for area := areaToken; area <= areaExec; area++ {
		if len(given[area]) > 0 {
			kinds++
		}
	}
	switch {
	case len(given[areaConfig]) > 0:
		return conflict("these choose an entry of a kubeconfig, but a host is given", given[areaConfig]...)
	case kinds > 1:
		return conflict("more than one kind of credential is given, set only one of token, client certificate with key, username with password, or exec", credentials...)
	case len(given[areaCert]) == 1:
		return conflict("a client certificate and its key must both be given, but only one is set", given[areaCert]...)
	case len(given[areaBasic]) == 1:
		return conflict("username and password must both be given, but only one is set", given[areaBasic]...)
	case s.CACertificate != "" && s.insecure():
		return conflict("the server's certificate is either verified or not, set only one of", settingCA, settingInsecure)
	case s.Exec != nil && (s.Exec.Command == "" || s.Exec.APIVersion == ""):
		return conflict("a credential plugin needs api_version and command", settingExec)
	}
	return nil
}

func (s Settings) insecure() bool { return s.Insecure != nil && *s.Insecure }

// describe lists settings together with the environment variables that filled
// them, never their values.
func (s Settings) describe(names []string) string {
	described := make([]string, 0, len(names))
	for _, name := range names {
		if variable, ok := s.variables[name]; ok {
			name += " (from " + variable + ")"
		}
		described = append(described, name)
	}
	return strings.Join(described, ", ")
}

// way is how requests get to the API server.
type way struct {
	host       string
	transport  http.RoundTripper
	connecting *connectingTransport // the transport, if it has to ask for the way
}

// way resolves the settings. Files are read, nothing is dialled.
func (s Settings) way(timeout time.Duration, userAgent string) (way, error) {
	if s.Access != nil {
		connecting := &connectingTransport{access: s.Access, timeout: timeout, userAgent: userAgent}
		return way{host: nowhere, transport: connecting, connecting: connecting}, s.Validate()
	}
	config, err := s.restConfig()
	if err != nil {
		return way{}, err
	}
	config.UserAgent = userAgent
	shared, err := rest.TransportFor(config)
	if err != nil {
		return way{}, fmt.Errorf("prepare the connection to %s: %w", config.Host, err)
	}
	return way{host: config.Host, transport: newBoundedTransport(shared, config, timeout)}, nil
}

// restConfig is the client configuration of settings with an address.
func (s Settings) restConfig() (*rest.Config, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	switch {
	case s.InCluster:
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("read the service account of this pod: %w", err)
		}
		return config, nil
	case s.Host != "":
		return s.hostConfig()
	}
	return s.kubeconfig()
}

func (s Settings) hostConfig() (*rest.Config, error) {
	invalid := func(name, format string, args ...any) error {
		return &SettingsError{Names: []string{name}, Reason: s.describe([]string{name}) + ": " + fmt.Sprintf(format, args...)}
	}
	host := s.Host
	if !strings.Contains(host, "://") {
		// A missing scheme must not turn into plain HTTP: that would send the
		// credentials in clear.
		host = "https://" + host
	}
	address, err := url.Parse(host)
	if err != nil || address.Host == "" || address.Scheme != "https" && address.Scheme != "http" {
		return nil, invalid(settingHost, "%q is not the URL of an API server", s.Host)
	}
	config := &rest.Config{
		Host:        host,
		BearerToken: s.Token,
		Username:    s.Username,
		Password:    s.Password,
		TLSClientConfig: rest.TLSClientConfig{
			Insecure:   s.insecure(),
			ServerName: s.TLSServerName,
			CAData:     []byte(s.CACertificate),
			CertData:   []byte(s.ClientCertificate),
			KeyData:    []byte(s.ClientKey),
		},
	}
	if s.CACertificate != "" {
		if _, err := certutil.ParseCertsPEM([]byte(s.CACertificate)); err != nil {
			return nil, invalid(settingCA, "not a PEM certificate (base64 must be decoded first): %v", err)
		}
	}
	if s.ClientCertificate != "" {
		if _, err := tls.X509KeyPair([]byte(s.ClientCertificate), []byte(s.ClientKey)); err != nil {
			return nil, invalid(settingClientCert, "not a PEM certificate with its PEM key (base64 must be decoded first): %v", err)
		}
	}
	if s.ProxyURL != "" {
		proxy, err := url.Parse(s.ProxyURL)
		if err != nil || proxy.Host == "" {
			return nil, invalid(settingProxy, "not a URL")
		}
		config.Proxy = http.ProxyURL(proxy)
	}
	if s.Exec != nil {
		plugin := &clientcmdapi.ExecConfig{
			APIVersion:      s.Exec.APIVersion,
			Command:         s.Exec.Command,
			Args:            s.Exec.Args,
			InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		}
		for _, name := range slices.Sorted(maps.Keys(s.Exec.Env)) {
			plugin.Env = append(plugin.Env, clientcmdapi.ExecEnvVar{Name: name, Value: s.Exec.Env[name]})
		}
		config.ExecProvider = plugin
	}
	return config, nil
}

func (s Settings) kubeconfig() (*rest.Config, error) {
	content, source, err := s.loadKubeconfig()
	if err != nil {
		return nil, err
	}
	name := s.Context
	if name == "" {
		name = content.CurrentContext
	}
	contexts := strings.Join(slices.Sorted(maps.Keys(content.Contexts)), ", ")
	if contexts == "" {
		contexts = "none"
	}
	chosen, found := content.Contexts[name]
	switch {
	case name == "" && (s.User == "" || s.Cluster == ""):
		return nil, &SettingsError{Names: []string{settingContext}, Reason: fmt.Sprintf("%s has no current context; set %s to one of its contexts: %s", source, settingContext, contexts)}
	case name != "" && !found:
		return nil, &SettingsError{Names: []string{settingContext}, Reason: fmt.Sprintf("%s has no context %q; its contexts: %s", source, name, contexts)}
	}
	cluster := s.Cluster
	if cluster == "" {
		cluster = chosen.Cluster
	}
	if server := content.Clusters[cluster]; server == nil || server.Server == "" {
		return nil, &SettingsError{Names: []string{settingContext}, Reason: fmt.Sprintf("%s gives no server for cluster %q", source, cluster)}
	}
	overrides := &clientcmd.ConfigOverrides{
		Context: clientcmdapi.Context{AuthInfo: s.User, Cluster: s.Cluster},
		ClusterInfo: clientcmdapi.Cluster{
			InsecureSkipTLSVerify: s.insecure(),
			TLSServerName:         s.TLSServerName,
			ProxyURL:              s.ProxyURL,
		},
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*content, name, overrides, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	if config.ExecProvider != nil {
		// Standard input is Terraform's plugin protocol: a plugin that asks the
		// user must fail instead of waiting for ever.
		config.ExecProvider.StdinUnavailable = true
	}
	return config, nil
}

func (s Settings) loadKubeconfig() (content *clientcmdapi.Config, source string, err error) {
	if s.Config != "" {
		source = s.describe([]string{settingConfig})
		content, err = clientcmd.Load([]byte(s.Config))
		if err != nil {
			// The parser's own words may quote the content, credentials included.
			return nil, source, &SettingsError{Names: []string{settingConfig}, Reason: source + ": not the content of a kubeconfig file"}
		}
		return content, source, nil
	}
	paths := make([]string, 0, len(s.ConfigPaths))
	for _, path := range s.ConfigPaths {
		path, err = expandHome(path)
		if err != nil {
			return nil, "", err
		}
		// client-go passes over files that are missing.
		if _, err := os.Stat(path); err != nil {
			return nil, "", &SettingsError{Names: []string{settingConfigPaths}, Reason: fmt.Sprintf("%s: %v", s.describe([]string{settingConfigPaths}), err)}
		}
		paths = append(paths, path)
	}
	source = "kubeconfig " + strings.Join(paths, ", ")
	content, err = (&clientcmd.ClientConfigLoadingRules{Precedence: paths}).Load()
	if err != nil {
		return nil, source, &SettingsError{Names: []string{settingConfigPaths}, Reason: source + ": not a kubeconfig file"}
	}
	return content, source, nil
}

func expandHome(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || rest != "" && !os.IsPathSeparator(rest[0]) {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.Join(fmt.Errorf("expand %q", path), err)
	}
	return filepath.Join(home, rest), nil
}
