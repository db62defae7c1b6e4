package oci

import (
	"context"
	"fmt"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// Keychain gives the credential for a registry's host ("registry-1.docker.io" for
// docker.io), and the empty credential for a host that it knows nothing of.
type Keychain func(ctx context.Context, host string) (auth.Credential, error)

// Static is the keychain of credentials that are given, by host; docker.io is that
// of Docker Hub.
func Static(credentials map[string]auth.Credential) Keychain {
	hosts := make(map[string]auth.Credential, len(credentials))
	for host, credential := range credentials {
		hosts[Reference{Registry: host}.Host()] = credential
	}
	return func(_ context.Context, host string) (auth.Credential, error) { return hosts[host], nil }
}

// DockerConfig is the keychain of the Docker command line: config.json in
// $DOCKER_CONFIG or ~/.docker, its helpers (credHelpers, credsStore) included. It
// is read at each use, for helpers and logins renew it during a long run.
func DockerConfig() Keychain {
	return func(ctx context.Context, host string) (auth.Credential, error) {
		store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return auth.EmptyCredential, fmt.Errorf("configuration of Docker: %w", err)
		}
		credential, err := credentials.Credential(store)(ctx, host)
		if err != nil {
			return auth.EmptyCredential, fmt.Errorf("credential for %s by the configuration of Docker: %w", host, err)
		}
		return credential, nil
	}
}
