package aks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"k8s.io/client-go/rest"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
)

// noAzureRole is how Azure RBAC words that somebody has no role at all.
const noAzureRole = "User does not have access to the resource in Azure"

var errNoAzureRole = errors.New("the API server answers: " + noAzureRole)

func lacksRole(err error) bool {
	return resourcemanager.LacksRole(err) || errors.Is(err, errNoAzureRole)
}

// awaitAdmission waits until Azure RBAC lets the account into the cluster. What is
// still refused at the end of patience is for the requests to tell.
func (a *Access) awaitAdmission(ctx context.Context, config *rest.Config) error {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return fmt.Errorf("prepare the connection to %s: %w", config.Host, err)
	}
	err = a.account.AwaitRoles(ctx, lacksRole, func(ctx context.Context) error { return knock(ctx, transport, config.Host) })
	if ctx.Err() != nil {
		return err
	}
	return nil
}

// knock asks the API server for what needs hardly any role, and returns
// errNoAzureRole if Azure RBAC knows of none at all. Everything else is for whoever
// asks next to find out.
func knock(ctx context.Context, transport http.RoundTripper, host string) error {
	ctx, cancel := context.WithTimeout(ctx, explainLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, host+"/api/v1/namespaces?limit=1", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil // The requests to come tell it better.
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil || !bytes.Contains(answer, []byte(noAzureRole)) {
		return nil // As above.
	}
	return errNoAzureRole
}
