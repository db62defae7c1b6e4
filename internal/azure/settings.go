package azure

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

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
	OIDCToken                      string // cannot be renewed: nothing gets a token any more after it has expired
	OIDCTokenFilePath              string // read at every renewal
	OIDCRequestToken               string
	OIDCRequestURL                 string // asked for a new ID token at every renewal
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

// Names of the settings in messages.
const (
	settingSubscription        = "subscription_id"
	settingTenant              = "tenant_id"
	settingAuxiliaryTenants    = "auxiliary_tenant_ids"
	settingClient              = "client_id"
	settingClientFile          = "client_id_file_path"
	settingSecret              = "client_secret"
	settingSecretFile          = "client_secret_file_path"
	settingCertificate         = "client_certificate"
	settingCertificateFile     = "client_certificate_path"
	settingCertificatePassword = "client_certificate_password"
	settingUseOIDC             = "use_oidc"
	settingOIDCToken           = "oidc_token"
	settingOIDCTokenFile       = "oidc_token_file_path" //nolint:gosec // A name.
	settingOIDCRequestToken    = "oidc_request_token"   //nolint:gosec // A name.
	settingOIDCRequestURL      = "oidc_request_url"
	settingServiceConnection   = "ado_pipeline_service_connection_id"
	settingUseWorkloadIdentity = "use_aks_workload_identity"
	settingUseMSI              = "use_msi"
	settingUseCLI              = "use_cli"
	settingEnvironment         = "environment"
	settingAuthorityHost       = "endpoint.active_directory_authority_host"
	settingManagerEndpoint     = "endpoint.resource_manager_endpoint"
	settingManagerAudience     = "endpoint.resource_manager_audience"
	settingNoDiscovery         = "disable_instance_discovery"
)

const systemOIDCRequestURI = "SYSTEM_OIDCREQUESTURI" // what Azure Pipelines calls oidc_request_url

// area says which way to log in a setting belongs to.
type area int

const (
	areaAny         area = iota // who and where, whatever the way
	areaCertificate             // the ways, in azurerm's order
	areaSecret
	areaOIDC
	areaMSI
	areaCLI
)

// setting is one row of the table from which environment fallbacks, conflicts
// and messages follow.
type setting struct {
	name string
	area area
	// chooses tells that the setting alone chooses its area, so that it is what
	// the others of the area depend on.
	chooses bool
	// choice names what can be given in several ways, way which one this is: of
	// one choice only one way may be used.
	choice, way string
	variables   []string // fallbacks from the environment, in order of precedence
	isSet       func(*Settings) bool
	set         func(*Settings, string) error
}

func text(name string, area area, field func(*Settings) *string, variables ...string) setting {
	return setting{
		name: name, area: area, variables: variables,
		isSet: func(s *Settings) bool { return *field(s) != "" },
		set:   func(s *Settings, v string) error { *field(s) = v; return nil },
	}
}

func flag(name string, area area, field func(*Settings) **bool, variables ...string) setting {
	return setting{
		name: name, area: area, chooses: area != areaAny, variables: variables,
		isSet: func(s *Settings) bool { return *field(s) != nil },
		set: func(s *Settings, v string) error {
			value, err := strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("%q is neither true nor false", v)
			}
			*field(s) = &value
			return nil
		},
	}
}

func (entry setting) chooser() setting { entry.chooses = true; return entry }

func (entry setting) oneWay(choice, way string) setting {
	entry.choice, entry.way = choice, way
	return entry
}

// settingsTable is in the order of messages and of precedence: what chooses a
// way to log in comes before what depends on the choice.
func settingsTable() []setting {
	return []setting{
		text(settingSubscription, areaAny, func(s *Settings) *string { return &s.SubscriptionID }, "ARM_SUBSCRIPTION_ID", "AZURE_SUBSCRIPTION_ID"),
		text(settingTenant, areaAny, func(s *Settings) *string { return &s.TenantID }, "ARM_TENANT_ID", sdkTenant),
		{
			name: settingAuxiliaryTenants, variables: []string{"ARM_AUXILIARY_TENANT_IDS"},
			isSet: func(s *Settings) bool { return len(s.AuxiliaryTenantIDs) > 0 },
			set: func(s *Settings, v string) error {
				s.AuxiliaryTenantIDs = strings.FieldsFunc(v, func(r rune) bool { return r == ';' })
				return nil
			},
		},
		text(settingClient, areaAny, func(s *Settings) *string { return &s.ClientID }, "ARM_CLIENT_ID", sdkClient).oneWay("client ID", "value"),
		text(settingClientFile, areaAny, func(s *Settings) *string { return &s.ClientIDFilePath }, "ARM_CLIENT_ID_FILE_PATH").oneWay("client ID", "file"),

		text(settingCertificate, areaCertificate, func(s *Settings) *string { return &s.ClientCertificate }, "ARM_CLIENT_CERTIFICATE").chooser().oneWay("client certificate", "value"),
		text(settingCertificateFile, areaCertificate, func(s *Settings) *string { return &s.ClientCertificatePath }, "ARM_CLIENT_CERTIFICATE_PATH", sdkCertificateFile).chooser().oneWay("client certificate", "file"),
		text(settingCertificatePassword, areaCertificate, func(s *Settings) *string { return &s.ClientCertificatePassword }, "ARM_CLIENT_CERTIFICATE_PASSWORD", sdkCertificatePassword),

		text(settingSecret, areaSecret, func(s *Settings) *string { return &s.ClientSecret }, "ARM_CLIENT_SECRET", sdkSecret).chooser().oneWay("client secret", "value"),
		text(settingSecretFile, areaSecret, func(s *Settings) *string { return &s.ClientSecretFilePath }, "ARM_CLIENT_SECRET_FILE_PATH").chooser().oneWay("client secret", "file"),

		flag(settingUseOIDC, areaOIDC, func(s *Settings) **bool { return &s.UseOIDC }, "ARM_USE_OIDC"),
		flag(settingUseWorkloadIdentity, areaOIDC, func(s *Settings) **bool { return &s.UseAKSWorkloadIdentity }, "ARM_USE_AKS_WORKLOAD_IDENTITY"),
		text(settingOIDCToken, areaOIDC, func(s *Settings) *string { return &s.OIDCToken }, "ARM_OIDC_TOKEN").oneWay("ID token", "value"),
		text(settingOIDCTokenFile, areaOIDC, func(s *Settings) *string { return &s.OIDCTokenFilePath }, "ARM_OIDC_TOKEN_FILE_PATH", federatedTokenFile).oneWay("ID token", "file"),
		text(settingOIDCRequestURL, areaOIDC, func(s *Settings) *string { return &s.OIDCRequestURL }, "ARM_OIDC_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_URL", systemOIDCRequestURI).oneWay("ID token", "request"),
		text(settingOIDCRequestToken, areaOIDC, func(s *Settings) *string { return &s.OIDCRequestToken }, "ARM_OIDC_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SYSTEM_ACCESSTOKEN").oneWay("ID token", "request"),
		text(settingServiceConnection, areaOIDC, func(s *Settings) *string { return &s.ADOPipelineServiceConnectionID },
			"ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID", "ARM_OIDC_AZURE_SERVICE_CONNECTION_ID", "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID").oneWay("ID token", "request"),

		flag(settingUseMSI, areaMSI, func(s *Settings) **bool { return &s.UseMSI }, "ARM_USE_MSI"),
		flag(settingUseCLI, areaCLI, func(s *Settings) **bool { return &s.UseCLI }, "ARM_USE_CLI"),

		text(settingEnvironment, areaAny, func(s *Settings) *string { return &s.Environment }, "ARM_ENVIRONMENT"),
		{
			// The webhook of AKS workload identity says so in which cloud a pod is.
			name: settingEnvironment, variables: []string{"AZURE_AUTHORITY_HOST"},
			isSet: func(s *Settings) bool { return s.Environment != "" },
			set: func(s *Settings, v string) error {
				for name, known := range clouds() {
					if strings.TrimRight(known.Configuration.ActiveDirectoryAuthorityHost, "/") == strings.TrimRight(v, "/") {
						s.Environment = name
						return nil
					}
				}
				return fmt.Errorf("%q is the authority of no cloud that is known; set %s to %q and %s, %s and %s to where it is",
					v, settingEnvironment, environmentCustom, settingAuthorityHost, settingManagerEndpoint, settingManagerAudience)
			},
		},
		text(settingAuthorityHost, areaAny, func(s *Settings) *string { return &s.Endpoint.ActiveDirectoryAuthorityHost }, "ARM_ACTIVE_DIRECTORY_AUTHORITY_HOST").oneWay(choiceEndpoint, ""),
		text(settingManagerEndpoint, areaAny, func(s *Settings) *string { return &s.Endpoint.ResourceManagerEndpoint }, "ARM_RESOURCE_MANAGER_ENDPOINT").oneWay(choiceEndpoint, ""),
		text(settingManagerAudience, areaAny, func(s *Settings) *string { return &s.Endpoint.ResourceManagerAudience }, "ARM_RESOURCE_MANAGER_AUDIENCE").oneWay(choiceEndpoint, ""),
		flag(settingNoDiscovery, areaAny, func(s *Settings) **bool { return &s.DisableInstanceDiscovery }, "ARM_DISABLE_INSTANCE_DISCOVERY"),
	}
}

const (
	choiceEndpoint     = "endpoint"
	federatedTokenFile = "AZURE_FEDERATED_TOKEN_FILE"
)

// Variables by which Azure's SDKs know a principal.
const (
	sdkTenant              = "AZURE_TENANT_ID"
	sdkClient              = "AZURE_CLIENT_ID"
	sdkSecret              = "AZURE_CLIENT_SECRET" //nolint:gosec // A name.
	sdkCertificateFile     = "AZURE_CLIENT_CERTIFICATE_PATH"
	sdkCertificatePassword = "AZURE_CLIENT_CERTIFICATE_PASSWORD" //nolint:gosec // A name.
)

// tier says whose convention a variable is: azurerm's comes before that of
// azidentity, which comes before what a CI system sets by itself.
func tier(variable string) int {
	switch {
	case strings.HasPrefix(variable, "ARM_"):
		return 0
	case strings.HasPrefix(variable, "AZURE_"):
		return 1
	}
	return 2
}

// WithEnvironment returns the settings completed from the variables that the
// azurerm provider reads (ARM_*), then from those of Azure's SDKs (AZURE_*), then
// from those that GitHub Actions and Azure Pipelines set themselves. What is set
// stays as it is, and a variable is used only if it belongs to the way to log in
// that is already chosen: with a client_secret set ARM_CLIENT_CERTIFICATE has no
// effect, and without use_oidc ARM_OIDC_TOKEN has none. The principal of AZURE_* is
// taken as a whole, and only where nothing else is chosen: not even the Azure CLI,
// by use_cli. The error is a *SettingsError and names a variable whose value cannot
// be read, or settings that contradict the workload identity of the pod.
func (s Settings) WithEnvironment(getenv func(string) string) (Settings, error) {
	s.variables = maps.Clone(s.variables)
	if s.variables == nil {
		s.variables = map[string]string{}
	}
	table := settingsTable()
	for turn := range 3 {
		excluded, err := s.excludes(getenv)
		if err != nil {
			return Settings{}, err
		}
		for _, entry := range table {
			for _, variable := range entry.variables {
				value := getenv(variable)
				if value == "" || tier(variable) != turn || entry.isSet(&s) || slices.Contains(excluded, variable) || !s.takes(entry, variable, table) {
					continue
				}
				if err := entry.set(&s, value); err != nil {
					return Settings{}, &SettingsError{Names: []string{entry.name}, Reason: fmt.Sprintf("environment variable %s: %v", variable, err)}
				}
				s.variables[entry.name] = variable
			}
		}
	}
	return s, nil
}

// excludes are the variables of the SDK's principal that do not go with what is
// set already: their secret goes out in the name of their own application only, and
// what other tools are told by them must not change who logs in where azurerm,
// which does not read them, has a choice.
func (s *Settings) excludes(getenv func(string) string) ([]string, error) {
	var others []string
	for _, of := range []struct{ name, value, variable string }{{settingTenant, s.TenantID, sdkTenant}, {settingClient, s.ClientID, sdkClient}} {
		if theirs := getenv(of.variable); of.value != "" && theirs != "" && !strings.EqualFold(of.value, theirs) {
			others = append(others, of.name)
		}
	}
	chosen := s.chosen()
	credentials := []string{sdkCertificateFile, sdkCertificatePassword, sdkSecret}
	all := append([]string{sdkTenant, sdkClient}, credentials...)
	switch {
	case len(others) > 0 && isTrue(s.UseAKSWorkloadIdentity):
		return nil, s.fault(fmt.Sprintf("not that of the pod's workload identity (%s and %s in its environment); take it out, or do without %s",
			sdkTenant, sdkClient, settingUseWorkloadIdentity), others...)
	case len(others) > 0, len(chosen) > 0 && chosen[0] == areaMSI:
		return all, nil
	case len(chosen) > 0:
		return credentials, nil
	case isTrue(s.UseCLI), s.ClientIDFilePath != "", getenv(sdkClient) == "", s.TenantID == "" && getenv(sdkTenant) == "":
		return all, nil
	case getenv(sdkSecret) != "":
		return []string{sdkCertificateFile, sdkCertificatePassword}, nil // azidentity's order
	case getenv(sdkCertificateFile) == "":
		return all, nil
	}
	return nil, nil
}

// takes tells whether a variable goes with what is already set.
func (s *Settings) takes(entry setting, variable string, table []setting) bool {
	for _, other := range table {
		if entry.choice != "" && other.choice == entry.choice && other.way != entry.way && other.isSet(s) {
			return false
		}
	}
	switch {
	case variable == federatedTokenFile:
		// A pod has the file whether or not it is to be used.
		return isTrue(s.UseAKSWorkloadIdentity)
	case entry.choice == choiceEndpoint:
		return s.environment() == environmentCustom
	case entry.area == areaAny || entry.area == areaCLI:
		return true
	}
	chosen := s.chosen()
	return len(chosen) > 0 && chosen[0] == entry.area || entry.chooses && len(chosen) == 0
}

// chosen are the ways to log in that the settings ask for, in azurerm's order;
// none if only the Azure CLI is left.
func (s *Settings) chosen() []area {
	var chosen []area
	if s.ClientCertificate != "" || s.ClientCertificatePath != "" {
		chosen = append(chosen, areaCertificate)
	}
	if s.ClientSecret != "" || s.ClientSecretFilePath != "" {
		chosen = append(chosen, areaSecret)
	}
	if isTrue(s.UseOIDC) || isTrue(s.UseAKSWorkloadIdentity) {
		chosen = append(chosen, areaOIDC)
	}
	if isTrue(s.UseMSI) {
		chosen = append(chosen, areaMSI)
	}
	return chosen
}

// way is the one way to log in that valid settings ask for.
func (s *Settings) way() area {
	if chosen := s.chosen(); len(chosen) > 0 {
		return chosen[0]
	}
	return areaCLI
}

func isTrue(flag *bool) bool { return flag != nil && *flag }

// Validate reports whether one credential and one cloud follow from the settings;
// the error is a *SettingsError. Neither files nor network are touched.
func (s Settings) Validate() error {
	given := map[area][]string{}
	for _, entry := range settingsTable() {
		if entry.isSet(&s) && !slices.Contains(given[entry.area], entry.name) {
			given[entry.area] = append(given[entry.area], entry.name)
		}
	}
	if err := s.validateChoices(); err != nil {
		return err
	}
	chosen := s.chosen()
	if len(chosen) > 1 {
		var names []string
		for _, area := range chosen {
			names = append(names, given[area]...)
		}
		return s.fault("more than one way to log in to Azure is given, set only one of a client certificate, a client secret, OIDC and a managed identity", names...)
	}
	way := s.way()
	for _, idle := range []struct {
		area  area
		needs string
	}{
		{areaOIDC, settingUseOIDC + " = true"},
		{areaCertificate, settingCertificate + " or " + settingCertificateFile},
	} {
		names := slices.DeleteFunc(slices.Clone(given[idle.area]), func(name string) bool {
			return name == settingUseOIDC || name == settingUseWorkloadIdentity
		})
		if idle.area != way && len(names) > 0 {
			return s.fault("set without effect, for want of "+idle.needs, names...)
		}
	}
	if err := s.validateWay(way); err != nil {
		return err
	}
	if len(s.AuxiliaryTenantIDs) > 3 {
		return s.fault(fmt.Sprintf("Azure Resource Manager takes at most 3 tenants beside the account's own, not %d", len(s.AuxiliaryTenantIDs)), settingAuxiliaryTenants)
	}
	if way == areaMSI && len(s.AuxiliaryTenantIDs) > 0 {
		return s.fault("a managed identity has tokens of its own tenant only; take out, or log in another way", settingAuxiliaryTenants)
	}
	return s.validateCloud()
}

func (s *Settings) validateChoices() error {
	table := settingsTable()
	for i, entry := range table {
		for _, other := range table[:i] {
			if entry.choice != "" && entry.choice == other.choice && entry.way != other.way && entry.isSet(s) && other.isSet(s) {
				return s.fault("more than one "+entry.choice+" is given, set only one of", other.name, entry.name)
			}
		}
	}
	return nil
}

func (s *Settings) validateWay(way area) error {
	switch way {
	case areaMSI:
		return nil
	case areaCLI:
		if s.UseCLI != nil && !*s.UseCLI {
			return s.fault(fmt.Sprintf("no way to log in to Azure is given: set %s, %s, %s, %s or %s, or leave the Azure CLI allowed; set to false",
				settingSecret, settingCertificate, settingUseOIDC, settingUseWorkloadIdentity, settingUseMSI), settingUseCLI)
		}
		return nil
	}
	var missing, variables, because []string
	for _, entry := range settingsTable() {
		switch {
		case entry.name == settingClient && s.ClientID+s.ClientIDFilePath == "", entry.name == settingTenant && s.TenantID == "":
			missing = append(missing, entry.name)
			variables = append(variables, entry.variables[0])
		case entry.area == way && entry.chooses && entry.isSet(s):
			because = append(because, entry.name)
		}
	}
	if len(missing) > 0 {
		return &SettingsError{Names: missing, Reason: fmt.Sprintf("%s missing (environment variables %s), which logging in takes with %s",
			strings.Join(missing, " and "), strings.Join(variables, " and "), s.describe(because))}
	}
	if way == areaCertificate && s.ClientCertificate != "" {
		if _, err := base64.StdEncoding.DecodeString(s.ClientCertificate); err != nil {
			return s.fault(fmt.Sprintf("not base64; it takes the content of a PKCS#12 file in base64, the path of a file goes into %s", settingCertificateFile), settingCertificate)
		}
	}
	if way == areaOIDC {
		return s.validateOIDC()
	}
	return nil
}

func (s *Settings) validateOIDC() error {
	if s.OIDCToken != "" || s.OIDCTokenFilePath != "" {
		return nil
	}
	switch {
	case isTrue(s.UseAKSWorkloadIdentity) && s.OIDCRequestURL == "":
		return s.fault(fmt.Sprintf("no token file: the pod has no %s, so the webhook of AKS workload identity has not seen it (label azure.workload.identity/use: \"true\" on the pod, annotation azure.workload.identity/client-id on its service account), or set %s",
			federatedTokenFile, settingOIDCTokenFile), settingUseWorkloadIdentity)
	case s.OIDCRequestURL == "" && s.OIDCRequestToken == "":
		return s.fault(fmt.Sprintf("no ID token to log in with: set %s, %s, or %s with %s; GitHub Actions gives the last two to jobs with the permission \"id-token: write\", in Azure Pipelines hand SYSTEM_ACCESSTOKEN: $(System.AccessToken) to the step and set %s",
			settingOIDCToken, settingOIDCTokenFile, settingOIDCRequestURL, settingOIDCRequestToken, settingServiceConnection), settingUseOIDC)
	case s.OIDCRequestURL == "":
		return s.fault("needed beside "+s.describe([]string{settingOIDCRequestToken})+", or no ID token can be requested; not set", settingOIDCRequestURL)
	case s.OIDCRequestToken == "":
		return s.fault("needed beside "+s.describe([]string{settingOIDCRequestURL})+", or no ID token can be requested (in Azure Pipelines hand SYSTEM_ACCESSTOKEN: $(System.AccessToken) to the step); not set", settingOIDCRequestToken)
	case s.ADOPipelineServiceConnectionID == "" && s.variables[settingOIDCRequestURL] == systemOIDCRequestURI:
		return s.fault("Azure Pipelines gives ID tokens by service connection only: set its ID; not set", settingServiceConnection)
	}
	return s.validateURL(settingOIDCRequestURL, s.OIDCRequestURL)
}

func (s *Settings) validateCloud() error {
	if s.environment() != environmentCustom {
		if _, known := clouds()[s.environment()]; !known {
			return s.fault(fmt.Sprintf("%q is no cloud of Azure that is known; set one of %s, %s", s.Environment,
				strings.Join(slices.Sorted(maps.Keys(clouds())), ", "), environmentCustom), settingEnvironment)
		}
	}
	var set, missing []string
	for _, entry := range settingsTable() {
		switch {
		case entry.choice != choiceEndpoint:
		case entry.isSet(s):
			set = append(set, entry.name)
		default:
			missing = append(missing, entry.name)
		}
	}
	switch {
	case s.environment() != environmentCustom && len(set) > 0:
		return s.fault(fmt.Sprintf("set without effect, for want of %s = %q", settingEnvironment, environmentCustom), set...)
	case s.environment() != environmentCustom:
		return nil
	case len(missing) > 0:
		return s.fault(fmt.Sprintf("%s = %q needs to be told where the cloud is; not set", settingEnvironment, environmentCustom), missing...)
	}
	if err := s.validateURL(settingAuthorityHost, s.Endpoint.ActiveDirectoryAuthorityHost); err != nil {
		return err
	}
	return s.validateURL(settingManagerEndpoint, s.Endpoint.ResourceManagerEndpoint)
}

func (s *Settings) validateURL(name, value string) error {
	if address, err := url.Parse(value); err != nil || address.Scheme != "https" || address.Host == "" {
		// Not quoted: what was meant for another setting may be a secret.
		return s.fault("not an https URL, and secrets are not sent in clear", name)
	}
	return nil
}

// environment is the name of the cloud in the settings' own words.
func (s *Settings) environment() string {
	name := strings.ToLower(s.Environment)
	switch name {
	case "", "global":
		return "public"
	case "usgovernmentl4", "usgovernmentl5", "dod":
		return "usgovernment" // azurerm's names of parts that log in at the same place
	}
	return name
}

// fault is an error about settings: what is wrong, and with which.
func (s *Settings) fault(reason string, names ...string) error {
	return &SettingsError{Names: names, Reason: reason + ": " + s.describe(names)}
}

// describe lists settings together with the environment variables that filled
// them, never their values.
func (s *Settings) describe(names []string) string {
	described := make([]string, 0, len(names))
	for _, name := range names {
		if variable, ok := s.variables[name]; ok {
			name += " (from " + variable + ")"
		}
		described = append(described, name)
	}
	return strings.Join(described, ", ")
}

// configuration is where the settings' cloud logs in and is managed.
func (e Endpoint) configuration() cloud.Configuration {
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: e.ActiveDirectoryAuthorityHost,
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: e.ResourceManagerEndpoint, Audience: e.ResourceManagerAudience},
		},
	}
}
