// Package resourcemanager makes requests to Azure Resource Manager (ARM) and says
// what its refusals mean.
package resourcemanager

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

const (
	// tryLimit bounds one try of a request: ARM answers those that are made here
	// within seconds, and a connection that hangs must not hold up all.
	tryLimit = 30 * time.Second
	// patience is how long ARM may ask to be left alone: it counts requests in
	// windows of five minutes.
	patience = 5 * time.Minute
)

// Client asks ARM in the name of an account. It is safe for concurrent use.
type Client struct {
	arm   *arm.Client
	retry policy.RetryOptions
}

// New prepares a client; nothing is dialled.
func New(account *azure.Account) (*Client, error) {
	return newClient(account.Credential(), account.ClientOptions(), account.AuxiliaryTenantIDs())
}

func newClient(credential azcore.TokenCredential, options azcore.ClientOptions, auxiliaryTenants []string) (*Client, error) {
	options.Retry.TryTimeout, options.Retry.MaxRetryDelay = tryLimit, patience
	client, err := arm.NewClient("aksmesh", "v1.0.0", credential, &arm.ClientOptions{
		ClientOptions: options,
		// Registering a resource provider is up to who owns the subscription.
		DisableRPRegistration: true,
		AuxiliaryTenants:      auxiliaryTenants,
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the client for Azure Resource Manager: %w", err)
	}
	return &Client{arm: client, retry: options.Retry}, nil
}

// Request is one request to ARM.
type Request struct {
	Doing      string // in messages: "read AKS cluster rg/prod"
	Method     string // GET by default
	Path       string // resource ID, and what follows it
	APIVersion string
	Query      url.Values // besides the version
	Body       any        // encoded as JSON; nil for none
}

// Do makes a request, again where the SDK holds that this helps: it waits as long
// as Retry-After says, up to five minutes, but does not begin to if ctx ends before.
// What a success answers is decoded into the value that into points to. Errors are
// *Error.
func (c *Client) Do(ctx context.Context, request Request, into any) error {
	response, err := c.send(ctx, request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if err := runtime.UnmarshalAsJSON(response, into); err != nil {
		// The decoder's words may quote the answer, credentials included.
		return &Error{Doing: request.Doing, err: errUnreadable}
	}
	return nil
}

// send makes a request. The body of the answer has been read and can be read again.
func (c *Client) send(ctx context.Context, request Request) (*http.Response, error) {
	method := request.Method
	if method == "" {
		method = http.MethodGet
	}
	retry := c.retry
	if deadline, ok := ctx.Deadline(); ok {
		// What ARM has said is told instead of the end of a wait that is in vain.
		retry.MaxRetryDelay = max(min(retry.MaxRetryDelay, time.Until(deadline)), time.Millisecond)
	}
	made, err := runtime.NewRequest(policy.WithRetryOptions(ctx, retry), method, runtime.JoinPaths(c.arm.Endpoint(), (&url.URL{Path: request.Path}).EscapedPath()))
	if err != nil {
		return nil, &Error{Doing: request.Doing, err: err}
	}
	query := url.Values{"api-version": {request.APIVersion}}
	maps.Copy(query, request.Query)
	made.Raw().URL.RawQuery = query.Encode()
	made.Raw().Header.Set("Accept", "application/json")
	if request.Body != nil {
		if err := runtime.MarshalAsJSON(made, request.Body); err != nil {
			return nil, &Error{Doing: request.Doing, err: err}
		}
	}
	response, err := c.arm.Pipeline().Do(made)
	if err != nil {
		return nil, &Error{Doing: request.Doing, err: err}
	}
	if !runtime.HasStatusCode(response, http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent) {
		refusal := refused(request.Doing, response)
		refusal.waited = refusal.wait <= retry.MaxRetryDelay
		return nil, refusal
	}
	return response, nil
}
