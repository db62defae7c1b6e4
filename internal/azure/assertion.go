package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// federationAudience is whom ID tokens for Entra ID are addressed to, in every
// cloud.
const federationAudience = "api://AzureADTokenExchange"

// assertionOfActions asks GitHub for an ID token of the job that runs.
//
// https://docs.github.com/actions/reference/security/oidc
func (a *Account) assertionOfActions(ctx context.Context) (string, error) {
	return a.requestAssertion(ctx, http.MethodGet, map[string]string{"audience": federationAudience})
}

// assertionOfPipelines asks Azure Pipelines for an ID token of the service
// connection.
//
// https://learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create
func (a *Account) assertionOfPipelines(ctx context.Context) (string, error) {
	return a.requestAssertion(ctx, http.MethodPost, map[string]string{
		"api-version":         "7.1",
		"serviceConnectionId": a.settings.ADOPipelineServiceConnectionID,
	})
}

// requestAssertion asks the CI system, whose answers of passing trouble are
// retried as Azure's own are. Parameters that the URL already has are left.
func (a *Account) requestAssertion(ctx context.Context, verb string, parameters map[string]string) (string, error) {
	address, err := url.Parse(a.settings.OIDCRequestURL)
	if err != nil {
		return "", fmt.Errorf("%s: not a URL", settingOIDCRequestURL)
	}
	query := address.Query()
	for name, value := range parameters {
		if !query.Has(name) {
			query.Set(name, value)
		}
	}
	address.RawQuery = query.Encode()
	request, err := runtime.NewRequest(ctx, verb, address.String())
	if err != nil {
		return "", fmt.Errorf("%s: %w", settingOIDCRequestURL, err)
	}
	request.Raw().Header.Set("Authorization", "Bearer "+a.settings.OIDCRequestToken)
	request.Raw().Header.Set("Accept", "application/json")
	// Azure Pipelines then says 401 instead of showing a page to log in.
	request.Raw().Header.Set("X-TFS-FedAuthRedirect", "Suppress")

	options := a.loginOptions()
	response, err := runtime.NewPipeline("aksmesh", "v1.0.0", runtime.PipelineOptions{}, &options).Do(request)
	if err != nil {
		return "", &assertionError{Host: address.Host, Err: err}
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return "", &assertionError{Host: address.Host, Status: response.StatusCode}
	}
	body, err := runtime.Payload(response)
	if err != nil {
		return "", &assertionError{Host: address.Host, Err: err}
	}
	var answer struct {
		Value     string `json:"value"`     // of GitHub Actions
		OIDCToken string `json:"oidcToken"` // of Azure Pipelines
	}
	// Not the parser's words: they may quote the token.
	if err := json.Unmarshal(body, &answer); err != nil || answer.Value+answer.OIDCToken == "" {
		return "", &assertionError{Host: address.Host, Err: errors.New("there is no token in the answer")}
	}
	return answer.Value + answer.OIDCToken, nil
}

// assertionError reports that a CI system gave no ID token.
type assertionError struct {
	Host   string
	Status int // of its answer, 0 if Err tells more
	Err    error
}

func (e *assertionError) Error() string {
	reason := fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	if e.Err != nil {
		reason = describeTransport(e.Err)
	}
	return fmt.Sprintf("request an ID token of %s: %s", e.Host, reason)
}

func (e *assertionError) Unwrap() error { return e.Err }
