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

// Identity is a managed identity of the home tenant.
type Identity struct {
	ClientID, ObjectID string

	azure  *Azure
	secret string
}

// AddIdentity makes a managed identity. Processes on virtual machines, which have
// nothing but Azure.Environ, get its tokens by its client ID, and those of
// the first one without.
func (a *Azure) AddIdentity() *Identity {
	identity := &Identity{ClientID: uuid.NewString(), ObjectID: uuid.NewString(), azure: a, secret: unique("header")}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identities[identity.ClientID] = identity
	if len(a.identities) == 1 {
		a.identities[""] = identity
	}
	return identity
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
	client := query.Get("client_id")
	a.mu.Lock()
	identity := a.identities[client]
	a.mu.Unlock()
	virtual := r.URL.Host == metadataAddress
	switch {
	case query.Get("api-version") == "" || virtual && r.Header.Get("Metadata") != "true":
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "Required metadata header not specified"})
	case identity == nil:
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "Identity not found"})
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

// CommandLine is an Azure CLI where somebody has logged in. It makes its tokens
// itself, in a shell, which has no TLS: this Azure believes what is in them.
type CommandLine struct {
	ObjectID string // the user's

	azure     *Azure
	directory string
	login     string // begins its tokens
}

const commandLineScript = `#!/bin/sh
# Takes the arguments of "az account get-access-token".
here=%s
printf '%%s\n' "$*" >> "$here/calls"
resource= tenant=%s
while [ $# -gt 0 ]; do
  case $1 in
    --resource) resource=$2; shift ;;
    --tenant) tenant=$2; shift ;;
  esac
  shift
done
if [ -e "$here/logged-out" ]; then
  echo "ERROR: Please run 'az login' to setup account." >&2
  exit 1
fi
expires=$(($(date +%%s) + $(cat "$here/lifetime")))
printf '{"accessToken":"%%s","expires_on":%%s,"subscription":"","tenant":"%%s","tokenType":"Bearer"}\n' "%s$expires~$$~$tenant~$resource" "$expires" "$tenant"
`

// AddCommandLine installs an Azure CLI.
func (a *Azure) AddCommandLine() (*CommandLine, error) {
	cli := &CommandLine{ObjectID: uuid.NewString(), azure: a, directory: filepath.Join(a.directory, unique("az")), login: "az~" + unique("login") + "~"}
	if err := os.Mkdir(cli.directory, 0o700); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := cli.tell("lifetime", strconv.Itoa(int(a.lifetime.Seconds()))); err != nil {
		return nil, err
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
	parts := strings.SplitN(strings.TrimPrefix(token, c.login), "~", 4)
	if len(parts) != 4 {
		return claims{}, jwt.ErrTokenMalformed
	}
	expires, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return claims{}, jwt.ErrTokenMalformed
	}
	if !c.azure.now().Before(time.Unix(expires, 0)) {
		return claims{}, jwt.ErrTokenExpired
	}
	return claims{
		RegisteredClaims: jwt.RegisteredClaims{Audience: jwt.ClaimStrings{parts[3]}, ExpiresAt: jwt.NewNumericDate(time.Unix(expires, 0))},
		Tenant:           parts[2], Client: "04b07795-8ddb-461a-bbee-02f9e1bf7b46", Object: c.ObjectID,
	}, nil
}
