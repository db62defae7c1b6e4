package provider

import (
	"cmp"
	"context"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/acr"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

// registryLogin says by which credentials registries are asked, for descriptions.
const registryLogin = "Credentials are those of `registries` in the provider's `helm` block; for registries of Azure the provider's Azure login, " +
	"whose Microsoft Entra token is exchanged for one of the registry; and what `docker login` and credential helpers have left in `~/.docker/config.json` or `$DOCKER_CONFIG`"

// registries is how a session reaches registries. The zero value is ready for use.
type registries struct {
	login sync.Once
	azure *acr.Client
	err   error // why azure is nil

	// What stands in for the session's library while it has none.
	given   helm.LibraryOptions
	charts  sync.Once
	library *helm.Library
}

// know notes the provider's block `helm`, if that is known while others are not.
func (r *registries) know(ctx context.Context, config tfsdk.Config, diags *diag.Diagnostics) {
	var block types.Object
	diags.Append(config.GetAttribute(ctx, path.Root("helm"), &block)...)
	if block.IsNull() || !fullyKnown(ctx, block) {
		return
	}
	var m helmModel
	diags.Append(block.As(ctx, &m, objectAsOptions)...)
	r.given = m.options(ctx, diags)
}

// chartLibrary fetches charts, and asks registries, also while the provider's
// configuration is not known: mirrors are filled before there is a cluster.
func (s *session) chartLibrary() *helm.Library {
	if s.library != nil {
		return s.library
	}
	s.registries.charts.Do(func() {
		options := s.registries.given
		options.Keychain = s.keychain
		s.registries.library = helm.NewLibrary(options)
	})
	return s.registries.library
}

// azureRegistries is the client for Azure's registries. The error says that there
// is nobody to log in to Azure.
func (s *session) azureRegistries() (*acr.Client, error) {
	s.registries.login.Do(func() {
		account, err := s.azure()
		if err == nil {
			s.registries.azure, err = acr.NewClient(account)
		}
		s.registries.err = err
	})
	return s.registries.azure, s.registries.err
}

// keychain has the credentials that are not in the provider's configuration. What
// keeps from logging in to Azure does not keep from using a login of Docker's.
func (s *session) keychain(ctx context.Context, host string) (auth.Credential, error) {
	var failed error
	if acr.IsHost(host) {
		client, err := s.azureRegistries()
		if err == nil {
			var credential auth.Credential
			if credential, err = client.Credential(ctx, host); credential != auth.EmptyCredential {
				return credential, nil
			}
		}
		failed = err
	}
	credential, err := oci.DockerConfig()(ctx, host)
	if credential != auth.EmptyCredential {
		return credential, nil
	}
	return credential, cmp.Or(failed, err)
}

// tokenUser is the name by which Azure's registries take their tokens for passwords.
const tokenUser = "00000000-0000-0000-0000-000000000000"

// importLogin is the credential that Azure gets to fetch images from a host: one that
// the provider's configuration has for it, or for a registry of Azure's one of the
// account's; empty if there is none. What Docker keeps on this machine is not given
// away.
func (s *session) importLogin(ctx context.Context, host string) (auth.Credential, error) {
	credential, err := s.chartLibrary().Login(ctx, host)
	if err != nil || credential != auth.EmptyCredential || !acr.IsHost(host) {
		return credential, err
	}
	client, err := s.azureRegistries()
	if err != nil {
		return credential, err
	}
	if credential, err = client.Credential(ctx, host); err != nil || credential.RefreshToken == "" {
		return auth.EmptyCredential, err
	}
	return auth.Credential{Username: tokenUser, Password: credential.RefreshToken}, nil
}

// problemRegistry is problem for what registries have answered.
func problemRegistry(diags *diag.Diagnostics, summary string, err error) {
	problem(diags, summary, err, acr.Advice, oci.Advice)
}
