package testazure

// What applications prove themselves by instead of a secret. Certificates:
// https://learn.microsoft.com/entra/identity-platform/certificate-credentials,
// tokens of other issuers:
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation.

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // Entra ID names certificates by it.
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

const (
	gitHubHost      = "pipelines.actions.githubusercontent.com"
	gitHubIssuer    = "https://token.actions.githubusercontent.com"
	pipelinesHost   = "dev.azure.com"
	pipelinesIssuer = "https://vstoken.dev.azure.com/00000000-0000-4000-8000-00000000000d"

	federatedAudience = "api://AzureADTokenExchange"
	// jobTokenLifetime is that of the identity tokens of CI jobs.
	jobTokenLifetime = 5 * time.Minute
)

// issuer signs identity tokens.
type issuer struct {
	url string
	key *ecdsa.PrivateKey
}

// issuer returns the one with this URL and makes it if there is none.
func (a *Azure) issuer(url string) (*issuer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.issuers[url]; ok {
		return known, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	made := &issuer{url: url, key: key}
	a.issuers[url] = made
	return made, nil
}

func (i *issuer) token(subject, audience string, now time.Time) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{
		Issuer: i.url, Subject: subject, Audience: jwt.ClaimStrings{audience}, ID: uuid.NewString(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(jobTokenLifetime)),
	}).SignedString(i.key)
}

// Job is a CI job that may ask who it is.
type Job struct {
	Issuer, Subject string
	RequestURL      string
	RequestToken    string

	azure      *Azure
	connection string // the service connection, of Azure DevOps
}

// GitHubJob starts a job of GitHub Actions:
// https://docs.github.com/actions/reference/security/oidc.
func (a *Azure) GitHubJob(subject string) *Job {
	path := "/" + unique("run") + "/idtoken"
	return a.addJob(path, &Job{
		Issuer: gitHubIssuer, Subject: subject, azure: a,
		RequestURL: "https://" + gitHubHost + path + "?api-version=2.0", RequestToken: unique("request~"),
	})
}

// PipelinesJob starts a job of Azure Pipelines with one service connection:
// https://learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create.
func (a *Azure) PipelinesJob(subject string) *Job {
	path := "/example/" + unique("run") + "/oidctoken"
	return a.addJob(path, &Job{
		Issuer: pipelinesIssuer, Subject: subject, azure: a, connection: uuid.NewString(),
		RequestURL: "https://" + pipelinesHost + path, RequestToken: unique("system~"),
	})
}

func (a *Azure) addJob(path string, job *Job) *Job {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.jobs[path] = job
	return job
}

// ServiceConnection is the ID of the service connection, "" at GitHub.
func (j *Job) ServiceConnection() string { return j.connection }

// Environ returns the variables, as `NAME=value`, that the job's steps see.
func (j *Job) Environ() []string {
	if j.connection == "" {
		return []string{"ACTIONS_ID_TOKEN_REQUEST_URL=" + j.RequestURL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + j.RequestToken}
	}
	return []string{
		"SYSTEM_OIDCREQUESTURI=" + j.RequestURL, "SYSTEM_ACCESSTOKEN=" + j.RequestToken,
		"ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID=" + j.connection,
	}
}

// job returns the job that a request is of, nil if it is of none.
func (a *Azure) job(r *http.Request) *Job {
	a.mu.Lock()
	defer a.mu.Unlock()
	job := a.jobs[r.URL.Path]
	if job == nil || bearer(r) != job.RequestToken {
		return nil
	}
	return job
}

func (a *Azure) gitHub(w http.ResponseWriter, r *http.Request) {
	job := a.job(r)
	if job == nil || r.Method != http.MethodGet {
		http.Error(w, `{"message":"Not authorized"}`, http.StatusUnauthorized)
		return
	}
	audience := r.URL.Query().Get("audience")
	if audience == "" {
		audience = "https://github.com/example"
	}
	a.tokenOf(w, job, audience, "value")
}

func (a *Azure) pipelines(w http.ResponseWriter, r *http.Request) {
	job := a.job(r)
	switch {
	case job == nil:
		// Without X-TFS-FedAuthRedirect: Suppress browsers, and clients, are led to the page to sign in.
		if r.Header.Get("X-TFS-FedAuthRedirect") != "Suppress" {
			http.Redirect(w, r, "https://spsprodeus27.vssps.visualstudio.com/_signin", http.StatusFound)
			return
		}
		http.Error(w, "", http.StatusUnauthorized)
	case r.Method != http.MethodPost || r.URL.Query().Get("api-version") == "":
		http.Error(w, `{"message":"No api-version was supplied for the request."}`, http.StatusBadRequest)
	case r.URL.Query().Get("serviceConnectionId") != job.connection:
		http.Error(w, `{"message":"The service connection does not exist, has been disabled or hasn't been authorized for use."}`, http.StatusNotFound)
	default:
		a.tokenOf(w, job, federatedAudience, "oidcToken")
	}
}

func (a *Azure) tokenOf(w http.ResponseWriter, job *Job, audience, field string) {
	token, err := a.identityToken(job.Issuer, job.Subject, audience)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, map[string]any{"count": len(token), field: token})
}

func (a *Azure) identityToken(url, subject, audience string) (string, error) {
	signer, err := a.issuer(url)
	if err != nil {
		return "", err
	}
	return signer.token(subject, audience, a.now())
}

// Workload is a pod with a service account that Entra ID trusts.
type Workload struct {
	Issuer, Subject string
	TokenFile       string // as Kubernetes projects it; see Renew

	azure *Azure
}

// AddWorkload starts a pod with a projected service account token:
// https://learn.microsoft.com/azure/aks/workload-identity-overview.
func (a *Azure) AddWorkload(namespace, serviceAccount string) (*Workload, error) {
	w := &Workload{
		Issuer:    "https://westeurope.oic.prod-aks.azure.com/" + a.home.ID + "/00000000-0000-4000-8000-00000000000e/",
		Subject:   "system:serviceaccount:" + namespace + ":" + serviceAccount,
		TokenFile: filepath.Join(a.directory, unique("token")),
		azure:     a,
	}
	return w, w.Renew()
}

// Renew writes a new token into the file, as the kubelet does.
func (w *Workload) Renew() error {
	token, err := w.azure.identityToken(w.Issuer, w.Subject, federatedAudience)
	if err != nil {
		return err
	}
	return os.WriteFile(w.TokenFile, []byte(token), 0o600)
}

// Environ returns the variables, as `NAME=value`, that the webhook of workload
// identity puts into the pod of an application.
func (w *Workload) Environ(p *Application) []string {
	return []string{
		"AZURE_AUTHORITY_HOST=https://" + publicAuthority + "/", "AZURE_TENANT_ID=" + p.tenant.ID, "AZURE_CLIENT_ID=" + p.ClientID,
		"AZURE_FEDERATED_TOKEN_FILE=" + w.TokenFile,
	}
}

// assert checks a client assertion and says which kind it is of.
func (a *Azure) assert(r *http.Request, application *Application, assertion string) (how string, refused *refusal) {
	if r.PostFormValue("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return "", &refusal{http.StatusBadRequest, "invalid_request", "AADSTS900144: The request body must contain the following parameter: 'client_assertion_type'."}
	}
	var stated jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(assertion, &stated); err != nil {
		return "", &refusal{http.StatusBadRequest, "invalid_request", "AADSTS50027: JWT token is invalid or malformed."}
	}
	if stated.Issuer == application.ClientID {
		return "certificate", a.assertByCertificate(r, application, assertion)
	}
	return "federated", a.assertByIssuer(application, assertion, stated)
}

func (a *Azure) assertByCertificate(r *http.Request, application *Application, assertion string) *refusal {
	var stated jwt.RegisteredClaims
	endpoint := "https://" + hostOf(r.Host) + r.URL.Path
	_, err := jwt.ParseWithClaims(assertion, &stated, func(token *jwt.Token) (any, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, certificate := range application.certificates {
			byOld, byNew := sha1.Sum(certificate.Raw), sha256.Sum256(certificate.Raw) //nolint:gosec // As above.
			if isThumbprint(token.Header["x5t"], byOld[:]) || isThumbprint(token.Header["x5t#S256"], byNew[:]) {
				return certificate.PublicKey, nil
			}
		}
		return nil, errors.New("no such certificate")
	}, jwt.WithTimeFunc(a.now), jwt.WithLeeway(jobTokenLifetime), jwt.WithValidMethods([]string{"RS256", "PS256"}), jwt.WithAudience(endpoint), jwt.WithExpirationRequired())
	switch {
	case err == nil && stated.Subject == application.ClientID:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet):
		return a.outOfTime(stated)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return &refusal{http.StatusUnauthorized, "invalid_client", "AADSTS50013: Assertion failed audience validation: '" + strings.Join(stated.Audience, " ") + "'."}
	}
	return &refusal{http.StatusUnauthorized, "invalid_client", fmt.Sprintf("AADSTS700027: The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found., Thumbprint of key used by client: 'unknown', Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured keys for app Id '%s'.]", application.ClientID)}
}

func isThumbprint(header any, sum []byte) bool {
	text, ok := header.(string)
	if !ok {
		return false
	}
	stated, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(text), "="))
	return err == nil && bytes.Equal(stated, sum)
}

func (a *Azure) outOfTime(stated jwt.RegisteredClaims) *refusal {
	return &refusal{http.StatusUnauthorized, "invalid_client", fmt.Sprintf(
		"AADSTS700024: Client assertion is not within its valid time range. Current time: %s, assertion valid from %s, expiry time of assertion %s. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
		instant(jwt.NewNumericDate(a.now())), instant(stated.NotBefore), instant(stated.ExpiresAt),
	)}
}

// instant writes a claim that may be missing.
func instant(t *jwt.NumericDate) string {
	if t == nil {
		t = jwt.NewNumericDate(time.Time{})
	}
	return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
}

func (a *Azure) assertByIssuer(application *Application, assertion string, stated jwt.RegisteredClaims) *refusal {
	a.mu.Lock()
	signer := a.issuers[stated.Issuer]
	trusted := slices.Clone(application.subjects)
	a.mu.Unlock()
	hint := " Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
	if len(trusted) == 0 {
		return &refusal{http.StatusUnauthorized, "invalid_client", fmt.Sprintf("AADSTS70025: The client '%s' has no configured federated identity credentials.", application.ClientID)}
	}
	if signer == nil || !slices.ContainsFunc(trusted, func(f federation) bool { return f.issuer == stated.Issuer }) {
		return &refusal{http.StatusUnauthorized, "invalid_client", "AADSTS700211: No matching federated identity record found for presented assertion issuer '" + stated.Issuer + "'." + hint}
	}
	if !slices.Contains(trusted, federation{stated.Issuer, stated.Subject}) {
		return &refusal{http.StatusUnauthorized, "invalid_client", "AADSTS700213: No matching federated identity record found for presented assertion subject '" + stated.Subject + "'." + hint}
	}
	_, err := jwt.ParseWithClaims(assertion, &jwt.RegisteredClaims{}, func(*jwt.Token) (any, error) { return signer.key.Public(), nil },
		jwt.WithTimeFunc(a.now), jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(federatedAudience), jwt.WithExpirationRequired())
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet):
		return a.outOfTime(stated)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return &refusal{http.StatusUnauthorized, "invalid_client", "AADSTS700212: No matching federated identity record found for presented assertion audience '" + strings.Join(stated.Audience, " ") + "'." + hint}
	}
	return &refusal{http.StatusUnauthorized, "invalid_client", "AADSTS50013: Assertion failed signature validation."}
}
