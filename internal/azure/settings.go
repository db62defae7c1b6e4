package azure

// Settings say who logs in, and to which cloud. The names in messages are those
// of the azurerm provider, and of azapi where azurerm has none.
type Settings struct {
	SubscriptionID     string
	TenantID           string
	AuxiliaryTenantIDs []string

	ClientID                  string
	ClientIDFilePath          string
	ClientSecret              string
	ClientSecretFilePath      string
	ClientCertificate         string // PKCS#12, base64
	ClientCertificatePath     string // file with PKCS#12 or PEM
	ClientCertificatePassword string

	UseOIDC                        *bool
	OIDCToken                      string
	OIDCTokenFilePath              string
	OIDCRequestToken               string
	OIDCRequestURL                 string
	ADOPipelineServiceConnectionID string

	UseAKSWorkloadIdentity *bool
	UseMSI                 *bool
	UseCLI                 *bool // default true

	Environment              string // public (default), usgovernment, china or custom
	Endpoint                 Endpoint
	DisableInstanceDiscovery *bool

	variables map[string]string // environment variable by the name of the setting it filled
}

// Endpoint is where a custom cloud is; all three are needed then.
type Endpoint struct {
	ActiveDirectoryAuthorityHost string // https URL
	ResourceManagerEndpoint      string // https URL
	ResourceManagerAudience      string
}

// SettingsError reports settings from which no single credential follows. Names
// holds those at fault, as attributes of the provider are called.
type SettingsError struct {
	Names  []string
	Reason string
}

func (e *SettingsError) Error() string { return e.Reason }

// WithEnvironment returns the settings completed from the environment.
func (s Settings) WithEnvironment(getenv func(string) string) (Settings, error) { return s, nil }

// Validate reports whether one credential follows from the settings.
func (s Settings) Validate() error { return nil }
