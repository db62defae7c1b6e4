package testazure

// What logs in without a credential of its own. Managed identities:
// https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
// and
// https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#get-a-token-using-http.
// The Azure CLI: https://learn.microsoft.com/cli/azure/account#az-account-get-access-token.

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// metadataAddress is where virtual machines ask who they are. The proxy answers
// there, as the address is nobody's elsewhere.
const metadataAddress = "169.254.169.254"

// Identity is a managed identity of the home tenant, user-assigned unless
// AddSystemIdentity made it.
type Identity struct {
	ClientID, ObjectID string

	azure  *Azure
	secret string
}

// AddIdentity assigns a managed identity to the machines of processes that have
// nothing but Azure.Environ. They get its tokens by its client ID, and without as
// long as there is no other identity.
func (a *Azure) AddIdentity() *Identity {
	identity := a.newIdentity()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identities[identity.ClientID] = identity
	return identity
}

// AddSystemIdentity gives these machines an identity of their own, which is the
// one without a client ID.
func (a *Azure) AddSystemIdentity() *Identity {
	identity := a.newIdentity()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.system = identity
	return identity
}

func (a *Azure) newIdentity() *Identity {
	return &Identity{ClientID: uuid.NewString(), ObjectID: uuid.NewString(), azure: a, secret: unique("header")}
}

// identity is the one that a request of a machine means, with what is said if
// there is none. In App Service only the system's own needs no client ID.
func (a *Azure) identity(client string, virtual bool) (found *Identity, refusal string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case client != "":
		found = a.identities[client]
	case a.system != nil:
		found = a.system
	case virtual && len(a.identities) > 1:
		return nil, "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"
	case virtual:
		for _, only := range a.identities {
			found = only
		}
	}
	return found, "Identity not found"
}

// Environ returns the variables, as `NAME=value`, of processes in App Service or
// Container Apps that have the identity.
func (i *Identity) Environ() []string {
	return []string{
		"IDENTITY_ENDPOINT=" + i.azure.proxy.URL + "/msi/token", "IDENTITY_HEADER=" + i.secret,
		"ARM_ENVIRONMENT=public", "ARM_TENANT_ID=" + i.azure.home.ID, "ARM_CLIENT_ID=" + i.ClientID, "ARM_USE_MSI=true",
	}
}

// serveProxy answers at the proxy itself.
func (a *Azure) serveProxy(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		a.network.connect(w, r)
	case r.URL.Host == metadataAddress || r.URL.Host == "" && r.URL.Path == "/msi/token":
		if fault := a.fault(metadataAddress, r); fault != nil {
			fault.serve(w, r)
			return
		}
		a.managedIdentity(w, r)
	default:
		http.Error(w, "host "+r.URL.Host+" is unknown", http.StatusBadGateway)
	}
}

func (a *Azure) managedIdentity(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	virtual := r.URL.Host == metadataAddress
	identity, refusal := a.identity(query.Get("client_id"), virtual)
	switch {
	case query.Get("api-version") == "" || virtual && r.Header.Get("Metadata") != "true":
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "Required metadata header not specified"})
	case identity == nil:
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": refusal})
	case !virtual && r.Header.Get("X-IDENTITY-HEADER") != identity.secret:
		answer(w, http.StatusUnauthorized, map[string]any{"statusCode": http.StatusUnauthorized, "message": "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."})
	case !audienceKnown(query.Get("resource")):
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_resource", "error_description": "AADSTS500011: The resource principal named " + query.Get("resource") + " was not found in the tenant."})
	default:
		who := caller{tenant: a.home.ID, client: identity.ClientID, object: identity.ObjectID}
		token, lifetime := a.issue(who, query.Get("resource"), "managed identity")
		answer(w, http.StatusOK, map[string]any{
			"access_token": token, "token_type": "Bearer", "resource": query.Get("resource"), "client_id": identity.ClientID,
			"expires_in": strconv.Itoa(int(lifetime.Seconds())), "expires_on": strconv.FormatInt(time.Now().Add(lifetime).Unix(), 10),
		})
	}
}

// CommandLine is an Azure CLI where a user of the home tenant has logged in, or a
// managed identity: see BecomeIdentity. It makes its tokens itself, in a shell,
// which has no TLS: this Azure believes what is in them.
type CommandLine struct {
	ObjectID string // the user's

	azure     *Azure
	directory string
	login     string // signs its tokens; in form base64, like any signature
}

const commandLineScript = `#!/bin/sh
# Takes the arguments of "az account get-access-token".
here=%s home=%s
printf '%%s\n' "$*" >> "$here/calls"
refuse() {
  echo "ERROR: $1" >&2
  exit 1
}
encode() { base64 | tr -d '=\n' | tr '/+' '_-'; }
resource= tenant= subscription=
while [ $# -gt 0 ]; do
  case $1 in
    --resource) resource=$2; shift ;;
    --tenant) tenant=$2; shift ;;
    --subscription) subscription=$2; shift ;;
  esac
  shift
done
[ ! -e "$here/logged-out" ] || refuse "Please run 'az login' to setup account."
[ -z "$tenant" ] || [ -z "$subscription" ] || refuse "Please specify only one of subscription and tenant, not both"
[ -z "$tenant" ] || [ ! -e "$here/identity" ] || refuse "Tenant shouldn't be specified for $(cat "$here/identity") account"
tenant=${tenant:-$home}
[ "$tenant" = "$home" ] || refuse "AADSTS50020: User account 'someone@example.test' from identity provider 'https://sts.windows.net/$home/' does not exist in tenant '$tenant' and cannot access the application '04b07795-8ddb-461a-bbee-02f9e1bf7b46'(Microsoft Azure CLI) in that tenant."
grep -qxF "${resource%%/}" "$here/audiences" || refuse "AADSTS500011: The resource principal named $resource was not found in the tenant named $tenant."
expires=$(($(date +%%s) + $(cat "$here/lifetime")))
header=$(printf '{"alg":"HS256","typ":"JWT"}' | encode)
payload=$(printf '{"aud":"%%s","exp":%%s,"tid":"%%s","jti":"%%s"}' "$resource" "$expires" "$tenant" "$$" | encode)
printf '{"accessToken":"%%s","expires_on":%%s,"subscription":"%%s","tenant":"%%s","tokenType":"Bearer"}\n' "$header.$payload.%s" "$expires" "$subscription" "$tenant"
`

// AddCommandLine installs an Azure CLI.
func (a *Azure) AddCommandLine() (*CommandLine, error) {
	cli := &CommandLine{ObjectID: uuid.NewString(), azure: a, directory: filepath.Join(a.directory, unique("az")), login: unique("login-az")}
	if err := os.Mkdir(cli.directory, 0o700); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, content := range map[string]string{
		"lifetime":  strconv.Itoa(int(a.lifetime.Seconds())),
		"audiences": strings.Join(audiences(), "\n") + "\n",
	} {
		if err := cli.tell(name, content); err != nil {
			return nil, err
		}
	}
	script := fmt.Sprintf(commandLineScript, cli.directory, a.home.ID, cli.login)
	if err := os.WriteFile(filepath.Join(cli.directory, "az"), []byte(script), 0o700); err != nil { //nolint:gosec // It is to be run.
		return nil, err
	}
	a.commandLines = append(a.commandLines, cli)
	return cli, nil
}

// Environ returns the variables, as `NAME=value`, by which a process finds the
// Azure CLI.
func (c *CommandLine) Environ() []string {
	return []string{"PATH=" + c.directory + string(os.PathListSeparator) + os.Getenv("PATH")}
}

// Logout makes the CLI know nobody any more.
func (c *CommandLine) Logout() error { return c.tell("logged-out", "") }

// BecomeIdentity makes the login that of a managed identity, which kind says:
// "managed identity", as az login --identity does, or "Cloud Shell".
func (c *CommandLine) BecomeIdentity(kind string) error { return c.tell("identity", kind) }

// Calls returns the arguments of each run, in order.
func (c *CommandLine) Calls() ([]string, error) {
	content, err := os.ReadFile(filepath.Join(c.directory, "calls"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	return strings.Split(strings.TrimSpace(string(content)), "\n"), err
}

// tell writes what the script reads.
func (c *CommandLine) tell(name, content string) error {
	return os.WriteFile(filepath.Join(c.directory, name), []byte(content), 0o600)
}

// open reads a token of the script.
func (c *CommandLine) open(token string) (claims, error) {
	found := claims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, &found); err != nil {
		return claims{}, err
	}
	found.Client, found.Object = "04b07795-8ddb-461a-bbee-02f9e1bf7b46", c.ObjectID
	return found, jwt.NewValidator(jwt.WithTimeFunc(c.azure.now), jwt.WithExpirationRequired()).Validate(found)
}
