package testazure

// Microsoft Entra ID, as far as applications need it that log in as themselves:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow.
// Error codes and texts:
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes.

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// ClientSecret is the secret of the application of Azure.ClientSecretEnviron. It
// has every character that URIs, forms and shells treat specially.
const ClientSecret = `test~&=;?#%41+ /"'secret` //nolint:gosec // It opens nothing but this double.

const (
	publicAuthority = "login.microsoftonline.com"

	clusterAudience  = "6dae42f8-4368-4678-94ff-3960e28e3630"
	registryAudience = "https://containerregistry.azure.net"
	vaultAudience    = "https://vault.azure.net"
)

// CustomAuthority, CustomManagement and CustomAudience are where a cloud is that
// Microsoft does not run.
const (
	CustomAuthority  = "https://login.azure.example.test"
	CustomManagement = "https://management.azure.example.test"
	CustomAudience   = "https://management.azure.example.test/"
)

// authorities returns the hosts of Entra ID, each with the names that its cloud
// knows it by.
func authorities() map[string][]string {
	return map[string][]string{
		publicAuthority:                                 {publicAuthority, "login.windows.net", "login.microsoft.com", "sts.windows.net"},
		"login.microsoftonline.us":                      {"login.microsoftonline.us", "login.usgovcloudapi.net"},
		"login.chinacloudapi.cn":                        {"login.chinacloudapi.cn", "login.partner.microsoftonline.cn"},
		strings.TrimPrefix(CustomAuthority, "https://"): {strings.TrimPrefix(CustomAuthority, "https://")},
	}
}

// managementAudiences returns whom a token for Resource Manager is for, without
// the slash at the end that clients may add.
func managementAudiences() []string {
	return []string{
		"https://management.core.windows.net", "https://management.azure.com",
		"https://management.core.usgovcloudapi.net", "https://management.usgovcloudapi.net",
		"https://management.core.chinacloudapi.cn", "https://management.chinacloudapi.cn",
		strings.TrimSuffix(CustomAudience, "/"),
	}
}

// audiences returns whom tokens may be for, without the slash at the end.
func audiences() []string {
	return append(managementAudiences(), clusterAudience, registryAudience, vaultAudience)
}

func audienceKnown(audience string) bool {
	return slices.Contains(audiences(), strings.TrimSuffix(audience, "/"))
}

// Tenant is a directory of applications.
type Tenant struct {
	ID string

	azure        *Azure
	main         *Application
	applications map[string]*Application
}

// Application is an application with its service principal.
type Application struct {
	ClientID string
	ObjectID string // of the service principal in its own tenant

	tenant       *Tenant
	secrets      map[string]bool // whether each is still valid
	certificates []*x509.Certificate
	subjects     []federation
}

// federation is a federated identity credential.
type federation struct{ issuer, subject string }

// Issued is a token that was given out.
type Issued struct {
	Tenant, Client, Object string
	Audience               string
	How                    string // "secret", "certificate", "federated", "managed identity", "cli"
	Expires                time.Time
}

// AddTenant makes a tenant without applications.
func (a *Azure) AddTenant() *Tenant {
	t := &Tenant{ID: uuid.NewString(), azure: a, applications: map[string]*Application{}}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tenants[t.ID] = t
	return t
}

// Tenant is where subscriptions, clusters and registries are unless told
// otherwise.
func (a *Azure) Tenant() *Tenant { return a.home }

// Application is the one of ClientSecretEnviron.
func (a *Azure) Application() *Application { return a.home.main }

// ClientSecretEnviron returns the variables, as `NAME=value`, by which a process
// logs in as Application with ClientSecret.
func (a *Azure) ClientSecretEnviron() []string {
	return append(a.home.main.Environ(), "ARM_CLIENT_SECRET="+ClientSecret)
}

// TokenLifetime is how long tokens are valid that are given out from now on; an
// hour if it is never called.
func (a *Azure) TokenLifetime(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lifetime = d
}

// Tokens returns the tokens that were given out, in order, but for those of the
// Azure CLI: see CommandLine.Calls.
func (a *Azure) Tokens() []Issued {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.tokens)
}

// AddApplication makes an application that cannot log in yet.
func (t *Tenant) AddApplication() *Application {
	p := &Application{ClientID: uuid.NewString(), ObjectID: uuid.NewString(), tenant: t, secrets: map[string]bool{}}
	t.azure.mu.Lock()
	defer t.azure.mu.Unlock()
	t.applications[p.ClientID] = p
	return p
}

// Admit makes an application of another tenant known in this one, with its
// credentials and a service principal of its own.
func (t *Tenant) Admit(p *Application) {
	t.azure.mu.Lock()
	defer t.azure.mu.Unlock()
	t.applications[p.ClientID] = p
}

// Environ returns the variables, as `NAME=value`, that name the application
// without its credentials.
func (p *Application) Environ() []string {
	return []string{"ARM_ENVIRONMENT=public", "ARM_TENANT_ID=" + p.tenant.ID, "ARM_CLIENT_ID=" + p.ClientID}
}

// TenantID is the application's own tenant.
func (p *Application) TenantID() string { return p.tenant.ID }

// AddSecret makes a client secret.
func (p *Application) AddSecret() string {
	secret := unique("~") + "=/"
	p.addSecret(secret)
	return secret
}

func (p *Application) addSecret(secret string) {
	p.tenant.azure.mu.Lock()
	defer p.tenant.azure.mu.Unlock()
	p.secrets[secret] = true
}

// ExpireSecrets ends the validity of all client secrets.
func (p *Application) ExpireSecrets() {
	p.tenant.azure.mu.Lock()
	defer p.tenant.azure.mu.Unlock()
	for secret := range p.secrets {
		p.secrets[secret] = false
	}
}

// AddCertificate lets the application log in by the certificate's key.
func (p *Application) AddCertificate(certificate *x509.Certificate) {
	p.tenant.azure.mu.Lock()
	defer p.tenant.azure.mu.Unlock()
	p.certificates = append(p.certificates, certificate)
}

// Federate lets the application log in by tokens of the issuer with the subject:
// see Job and Workload.
func (p *Application) Federate(issuer, subject string) {
	p.tenant.azure.mu.Lock()
	defer p.tenant.azure.mu.Unlock()
	p.subjects = append(p.subjects, federation{issuer, subject})
}

// refusal is how Entra ID refuses.
type refusal struct {
	status      int
	code        string
	description string // with its AADSTS number
}

// Error implements error.
func (e *refusal) Error() string { return e.description }

func (e *refusal) body() any {
	return map[string]any{
		"error": e.code,
		"error_description": e.description + " Trace ID: 00000000-0000-4000-8000-00000000000a Correlation ID: 00000000-0000-4000-8000-00000000000b" +
			" Timestamp: 2026-01-01 00:00:00Z",
		"timestamp":      "2026-01-01 00:00:00Z",
		"trace_id":       "00000000-0000-4000-8000-00000000000a",
		"correlation_id": "00000000-0000-4000-8000-00000000000b",
	}
}

// EntraFault is the answer of Entra ID by which it refuses a token; description
// begins with its AADSTS number.
func EntraFault(status int, code, description string) Fault {
	return Fault{Status: status, Path: "/oauth2/v2.0/token", Body: (&refusal{status, code, description}).body()}
}

func (a *Azure) entra(w http.ResponseWriter, r *http.Request) {
	host := hostOf(r.Host)
	if r.URL.Path == "/common/discovery/instance" {
		a.instances(w, r)
		return
	}
	tenant, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	a.mu.Lock()
	directory := a.tenants[strings.ToLower(tenant)]
	a.mu.Unlock()
	if directory == nil {
		refused := &refusal{
			http.StatusBadRequest, "invalid_tenant",
			fmt.Sprintf("AADSTS90002: Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.", tenant),
		}
		answer(w, refused.status, refused.body())
		return
	}
	base := "https://" + host + "/" + tenant
	switch path {
	case "v2.0/.well-known/openid-configuration":
		answer(w, http.StatusOK, map[string]any{
			"token_endpoint":         base + "/oauth2/v2.0/token",
			"authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"issuer":                 base + "/v2.0",
		})
	case "oauth2/v2.0/token":
		token, lifetime, refused := a.clientCredentials(r, directory)
		if refused != nil {
			answer(w, refused.status, refused.body())
			return
		}
		seconds := int(lifetime.Seconds())
		answer(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token})
	default:
		http.NotFound(w, r)
	}
}

// instances is how clients learn which authorities there are.
func (a *Azure) instances(w http.ResponseWriter, r *http.Request) {
	var metadata []map[string]any
	for host, aliases := range authorities() {
		metadata = append(metadata, map[string]any{"preferred_network": host, "preferred_cache": aliases[min(1, len(aliases)-1)], "aliases": aliases})
	}
	tenant := a.home.ID
	host := publicAuthority
	if endpoint, ok := strings.CutPrefix(r.URL.Query().Get("authorization_endpoint"), "https://"); ok {
		host, endpoint, _ = strings.Cut(endpoint, "/")
		tenant, _, _ = strings.Cut(endpoint, "/")
	}
	if _, ok := authorities()[host]; !ok {
		answer(w, http.StatusBadRequest, (&refusal{0, "invalid_instance", "AADSTS50049: Unknown or invalid instance."}).body())
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": "https://" + host + "/" + tenant + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  metadata,
	})
}

// clientCredentials gives a token to an application.
func (a *Azure) clientCredentials(r *http.Request, tenant *Tenant) (string, time.Duration, *refusal) {
	if r.PostFormValue("grant_type") != "client_credentials" {
		return "", 0, &refusal{http.StatusBadRequest, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type '" + r.PostFormValue("grant_type") + "'."}
	}
	client := r.PostFormValue("client_id")
	a.mu.Lock()
	application := tenant.applications[client]
	a.mu.Unlock()
	if application == nil {
		return "", 0, &refusal{
			http.StatusBadRequest, "unauthorized_client",
			fmt.Sprintf("AADSTS700016: Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.", client, tenant.ID),
		}
	}
	audience, ok := strings.CutSuffix(strings.Split(r.PostFormValue("scope"), " ")[0], "/.default")
	if !ok {
		return "", 0, &refusal{http.StatusBadRequest, "invalid_scope", "AADSTS1002012: The provided value for scope " + r.PostFormValue("scope") + " is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."}
	}
	if !audienceKnown(audience) {
		return "", 0, &refusal{http.StatusBadRequest, "invalid_resource", fmt.Sprintf("AADSTS500011: The resource principal named %s was not found in the tenant named %s. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.", audience, tenant.ID)}
	}
	how, refused := a.prove(r, application)
	if refused != nil {
		return "", 0, refused
	}
	token, issued := a.issue(caller{tenant: tenant.ID, client: client, object: application.ObjectID}, audience, how)
	return token, issued, nil
}

// prove checks the credential of a request and says which it is.
func (a *Azure) prove(r *http.Request, application *Application) (how string, refused *refusal) {
	if assertion := r.PostFormValue("client_assertion"); assertion != "" {
		return a.assert(r, application, assertion)
	}
	secret := r.PostFormValue("client_secret")
	if secret == "" {
		return "", &refusal{http.StatusUnauthorized, "invalid_client", "AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'."}
	}
	a.mu.Lock()
	valid, known := application.secrets[secret]
	a.mu.Unlock()
	switch {
	case !known:
		return "", &refusal{http.StatusUnauthorized, "invalid_client", fmt.Sprintf("AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", application.ClientID)}
	case !valid:
		return "", &refusal{http.StatusUnauthorized, "invalid_client", fmt.Sprintf("AADSTS7000222: The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.", application.ClientID)}
	}
	return "secret", nil
}

// caller is who holds a token.
type caller struct{ tenant, client, object string }

// claims are those of the tokens of Entra ID, and of registries.
type claims struct {
	jwt.RegisteredClaims

	Tenant string  `json:"tid,omitempty"`
	Client string  `json:"appid,omitempty"`
	Object string  `json:"oid,omitempty"`
	Access []grant `json:"access,omitempty"` // of registries
}

// issue makes a token and says how long it is valid.
func (a *Azure) issue(who caller, audience, how string) (string, time.Duration) {
	a.mu.Lock()
	lifetime := a.lifetime
	expires := time.Now().Add(a.offset + lifetime)
	a.tokens = append(a.tokens, Issued{Tenant: who.tenant, Client: who.client, Object: who.object, Audience: audience, How: how, Expires: expires})
	a.mu.Unlock()
	return a.seal(claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: "https://sts.windows.net/" + who.tenant + "/", Subject: who.object,
			Audience: jwt.ClaimStrings{audience}, ExpiresAt: jwt.NewNumericDate(expires), ID: uuid.NewString(),
		},
		Tenant: who.tenant, Client: who.client, Object: who.object,
	}), lifetime
}

// seal signs a token that only this Azure reads again.
func (a *Azure) seal(c claims) string {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(a.signing)
	if err != nil {
		panic(err) // No claim of ours can be impossible to write as JSON.
	}
	return token
}

// open reads a token that seal made. Its error is jwt.ErrTokenExpired, or
// another if it is none of ours.
func (a *Azure) open(token string) (claims, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return a.signing, nil },
		jwt.WithTimeFunc(a.now), jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	return c, err
}

// errAudience reports a token that is for somebody else.
type errAudience struct{ audience string }

// Error implements error.
func (e errAudience) Error() string { return "the token is for " + e.audience }

// authenticate says whose token for one of the audiences a request carries.
func (a *Azure) authenticate(token string, audiences ...string) (caller, error) {
	a.mu.Lock()
	commandLines := a.commandLines
	a.mu.Unlock()
	open := a.open
	for _, cli := range commandLines {
		if strings.HasSuffix(token, "."+cli.login) {
			open = cli.open
		}
	}
	c, err := open(token)
	if err != nil {
		return caller{}, err
	}
	audience := strings.Join(c.Audience, " ")
	if !slices.Contains(audiences, strings.TrimSuffix(audience, "/")) {
		return caller{}, errAudience{audience}
	}
	return caller{tenant: c.Tenant, client: c.Client, object: c.Object}, nil
}

func bearer(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}
