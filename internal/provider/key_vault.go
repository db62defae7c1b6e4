package provider

import "github.com/aksmesh/terraform-provider-aksmesh/internal/kms"

// keys are those that anchors and issuers can be signed with from here. Who logs
// in to Azure is asked for only once one is in a vault.
func (s *session) keys() kms.Keys {
	return kms.New(func() (kms.Login, error) {
		account, err := s.azure()
		if err != nil {
			return kms.Login{}, err
		}
		return kms.Login{
			Credential: account.Credential(), Options: account.ClientOptions(),
			Cloud: account.Cloud().Name, VaultSuffix: account.Cloud().VaultSuffix,
		}, nil
	})
}
