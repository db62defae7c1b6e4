package acr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/resourcemanager"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

// ImportRequest is an image that a registry is to fetch by itself, with all its
// platforms.
type ImportRequest struct {
	SourceRegistry string // host: "ghcr.io", "docker.io"
	SourceImage    string // "repository@sha256:…" or "repository:tag"
	// Target is "repository:tag", or "repository" for an image that is reached by its
	// digest alone.
	Target   string
	Force    bool   // a tag that is there already is moved
	Username string // for the source, "" if it lets anybody read
	Password string
}

// ImportError says that a registry could not fetch an image.
type ImportError struct {
	Request ImportRequest // without its password
	Err     error
}

func (e *ImportError) Error() string {
	return fmt.Sprintf("%s/%s as %s: %v", e.Request.SourceRegistry, e.Request.SourceImage, e.Request.Target, e.Err)
}

func (e *ImportError) Unwrap() error { return e.Err }

// Is tells of an import that was refused for its tag that it is [oci.ErrTagThere].
func (e *ImportError) Is(target error) bool {
	failed, ok := errors.AsType[*resourcemanager.Error](e.Err)
	return target == oci.ErrTagThere && ok && tagThere.MatchString(failed.Message)
}

// The body of an import.
//
// https://learn.microsoft.com/rest/api/containerregistry/registries/import-image
type (
	importParameters struct {
		Source         importSource `json:"source"`
		TargetTags     []string     `json:"targetTags,omitempty"`
		UntaggedTarget []string     `json:"untaggedTargetRepositories,omitempty"`
		Mode           string       `json:"mode"` // Force or NoForce
	}
	importSource struct {
		RegistryURI string             `json:"registryUri"`
		SourceImage string             `json:"sourceImage"`
		Credentials *importCredentials `json:"credentials,omitempty"`
	}
	importCredentials struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
)

// Import has a registry fetch an image, and waits until it is there, for as long
// as ctx lets it. Errors are *ImportError, and explained by [Advice].
func (c *Client) Import(ctx context.Context, into *arm.ResourceID, request ImportRequest) error {
	parameters := importParameters{
		Source: importSource{RegistryURI: request.SourceRegistry, SourceImage: request.SourceImage},
		Mode:   "NoForce",
	}
	if request.Force {
		parameters.Mode = "Force"
	}
	if strings.Contains(request.Target, ":") {
		parameters.TargetTags = []string{request.Target}
	} else {
		parameters.UntaggedTarget = []string{request.Target}
	}
	if request.Password != "" {
		parameters.Source.Credentials = &importCredentials{Username: request.Username, Password: request.Password}
		request.Password = ""
	}
	err := c.account.AwaitRoles(ctx, resourcemanager.LacksRole, func(ctx context.Context) error {
		return c.manager.Operate(ctx, resourcemanager.Request{
			Doing: "import into " + inWords(into), Method: http.MethodPost, Path: into.String() + "/importImage",
			APIVersion: apiVersion, Body: parameters,
		})
	})
	if err != nil {
		return &ImportError{Request: request, Err: err}
	}
	return nil
}
