package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// azureRoles are the built-in roles that suffice for each operation, and the
// permissions that stand for them in a vault with access policies.
var azureRoles = map[operation]struct{ role, permission string }{
	operationRead:   {"Key Vault Crypto User", "Get"},
	operationCreate: {"Key Vault Crypto Officer", "Create"},
	operationSign:   {"Key Vault Crypto User", "Sign"},
}

// azureError says in a line what an error of Azure's SDK says in a page, and
// still unwraps to it.
type azureError struct {
	text  string
	cause error
}

func (e *azureError) Error() string { return e.text }

func (e *azureError) Unwrap() error { return e.cause }

// explain says what an error of the vault means and what to do.
func (k azureKey) explain(operation operation, err error) error {
	var (
		response   *azcore.ResponseError
		resolution *net.DNSError
		transport  *url.Error
		text       string
	)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		text = fmt.Sprintf("vault %s, or who logs in to it, did not answer in time; check the network between this machine and the vault, and whether the vault is reachable by a private endpoint only", k.vault)
	case errors.As(err, &response):
		text = k.explainResponse(operation, response)
	case errors.As(err, &resolution) && resolution.IsNotFound && strings.HasPrefix(resolution.Name, k.vault+"."):
		text = fmt.Sprintf("host %s is unknown; check the vault's name, the environment (cloud) and, for a vault with a private endpoint, the private DNS zone", resolution.Name)
	case errors.As(err, &transport) && strings.HasPrefix(transport.URL, "https://"+k.vault+"."):
		text = fmt.Sprintf("vault %s is unreachable: %s; check the vault's name, proxies, and the network between this machine and the vault", k.vault, oneLine(transport.Err))
	default: // The login has its own words.
		text = oneLine(err)
	}
	return &azureError{text: fmt.Sprintf("%s: %s", operation, text), cause: err}
}

func (k azureKey) explainResponse(operation operation, response *azcore.ResponseError) string {
	answer := readAnswer(response)
	// The outer codes are as coarse as the status.
	switch answer.Inner.Code {
	case "ForbiddenByFirewall", "ForbiddenByConnection":
		return fmt.Sprintf("the network rules of vault %s refuse this machine (%s); allow its address, or run where the vault's private endpoint is reachable", k.vault, answer.Inner.Code)
	case "KeyDisabled":
		return fmt.Sprintf("the key is disabled; enable it with `az keyvault key set-attributes --vault-name %s --name %s --enabled true`", k.vault, k.name)
	case "ObjectIsDeletedButRecoverable":
		return fmt.Sprintf("a key of this name is soft-deleted; bring it back with `az keyvault key recover --vault-name %[1]s --name %[2]s`, remove it for good with `az keyvault key purge --vault-name %[1]s --name %[2]s`, or choose another name", k.vault, k.name)
	}
	switch response.StatusCode {
	case http.StatusNotFound:
		return fmt.Sprintf("there is no such key in vault %[1]s; check name and version, and if it was deleted, bring it back with `az keyvault key recover --vault-name %[1]s --name %[2]s`", k.vault, k.name)
	case http.StatusForbidden:
		if inner := answer.Inner.Code; inner != "" && inner != "ForbiddenByRbac" && inner != "AccessDenied" {
			// As for a key that is expired: no role would help.
			return fmt.Sprintf("vault %s refuses it: %s", k.vault, answer.describe(response))
		}
		need := azureRoles[operation]
		return fmt.Sprintf("forbidden in vault %s: %s; assign the role %q on the vault or key, which takes effect after some minutes, or in a vault with access policies grant the key permission %q",
			k.vault, answer.describe(response), need.role, need.permission)
	case http.StatusUnauthorized:
		return fmt.Sprintf("vault %s does not accept the credentials: %s; check that they belong to the tenant of the vault's subscription", k.vault, answer.describe(response))
	default:
		return fmt.Sprintf("vault %s answered %d: %s", k.vault, response.StatusCode, answer.describe(response))
	}
}

// azureAnswer is the body of a refusal.
type azureAnswer struct {
	Message string `json:"message"`
	Inner   struct {
		Code string `json:"code"`
	} `json:"innererror"`
}

func readAnswer(response *azcore.ResponseError) azureAnswer {
	var body struct {
		Error azureAnswer `json:"error"`
	}
	if response.RawResponse == nil {
		return body.Error
	}
	payload, err := runtime.Payload(response.RawResponse)
	if err != nil || json.Unmarshal(payload, &body) != nil {
		// A proxy's page, say: the status then says all there is.
		return azureAnswer{}
	}
	return body.Error
}

// describe returns the first line of the message, which alone is for people,
// and the codes.
func (a azureAnswer) describe(response *azcore.ResponseError) string {
	code := response.ErrorCode
	if a.Inner.Code != "" {
		code = a.Inner.Code
	}
	message, _, _ := strings.Cut(strings.TrimSpace(a.Message), "\n")
	message = strings.TrimRight(message, ".\r")
	switch {
	case message == "" && code == "":
		return http.StatusText(response.StatusCode)
	case message == "":
		return code
	case code == "":
		return message
	default:
		return fmt.Sprintf("%s (%s)", message, code)
	}
}

func oneLine(text any) string {
	return strings.Join(strings.Fields(fmt.Sprint(text)), " ")
}
