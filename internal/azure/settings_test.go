package azure

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
)

// environment returns a lookup in variables that are given as `NAME=value`.
func environment(variables ...string) func(string) string {
	return func(name string) string {
		for _, variable := range variables {
			if key, value, _ := strings.Cut(variable, "="); key == name {
				return value
			}
		}
		return ""
	}
}

func TestEnvironmentFillsWhatIsNotSet(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		settings  Settings
		variables []string
		method    string
		check     func(Settings) bool
	}{
		"azurerm's variables before those of the SDK": {
			variables: []string{
				"ARM_CLIENT_ID=arm", "AZURE_CLIENT_ID=sdk", "AZURE_TENANT_ID=sdk", "ARM_TENANT_ID=arm", "ARM_CLIENT_SECRET=arm", "AZURE_CLIENT_SECRET=sdk",
				"AZURE_SUBSCRIPTION_ID=sdk", "ARM_AUXILIARY_TENANT_IDS=one;two",
			},
			method: "client secret",
			check: func(s Settings) bool {
				return s.ClientID == "arm" && s.TenantID == "arm" && s.ClientSecret == "arm" && s.SubscriptionID == "sdk" &&
					slices.Equal(s.AuxiliaryTenantIDs, []string{"one", "two"})
			},
		},
		"a secret of another application than azurerm's": {
			variables: []string{"ARM_CLIENT_ID=arm", "ARM_TENANT_ID=tenant", "AZURE_CLIENT_ID=sdk", "AZURE_TENANT_ID=tenant", "AZURE_CLIENT_SECRET=sdk"},
			method:    "Azure CLI",
			check:     func(s Settings) bool { return s.ClientID == "arm" && s.ClientSecret == "" },
		},
		"a secret of nobody": {
			settings:  Settings{ClientID: "client", TenantID: "tenant"},
			variables: []string{"AZURE_CLIENT_SECRET=sdk", "AZURE_CLIENT_CERTIFICATE_PATH=sdk.pem"},
			method:    "Azure CLI",
			check:     func(s Settings) bool { return s.ClientSecret+s.ClientCertificatePath == "" },
		},
		"a certificate of an application in another tenant": {
			settings:  Settings{TenantID: "tenant"},
			variables: []string{"AZURE_CLIENT_ID=sdk", "AZURE_TENANT_ID=sdk", "AZURE_CLIENT_CERTIFICATE_PATH=sdk.pem", "AZURE_SUBSCRIPTION_ID=sdk"},
			method:    "Azure CLI",
			check:     func(s Settings) bool { return s.ClientID+s.ClientCertificatePath == "" && s.SubscriptionID == "sdk" },
		},
		"a secret of the same application": {
			settings:  Settings{ClientID: "SDK"},
			variables: []string{"ARM_TENANT_ID=tenant", "AZURE_CLIENT_ID=sdk", "AZURE_CLIENT_SECRET=sdk"},
			method:    "client secret",
			check:     func(s Settings) bool { return s.ClientID == "SDK" && s.TenantID == "tenant" && s.ClientSecret == "sdk" },
		},
		"half a principal of the SDK": {
			variables: []string{"AZURE_CLIENT_ID=sdk", "AZURE_CLIENT_SECRET=sdk"},
			method:    "Azure CLI",
			check:     func(s Settings) bool { return s.ClientID+s.ClientSecret == "" },
		},
		"the tenant of other tools": {
			variables: []string{"AZURE_CLIENT_ID=sdk", "AZURE_TENANT_ID=sdk"},
			method:    "Azure CLI",
			check:     func(s Settings) bool { return s.ClientID+s.TenantID == "" },
		},
		"the Azure CLI, said so, and a principal of the SDK": {
			settings:  Settings{UseCLI: new(true)},
			variables: []string{"AZURE_CLIENT_ID=sdk", "AZURE_TENANT_ID=sdk", "AZURE_CLIENT_SECRET=sdk"},
			method:    "Azure CLI",
			check:     func(s Settings) bool { return s.TenantID+s.ClientSecret == "" },
		},
		"the Azure CLI, said so, and a principal of azurerm": {
			settings:  Settings{UseCLI: new(true)},
			variables: []string{"ARM_CLIENT_ID=arm", "ARM_TENANT_ID=arm", "ARM_CLIENT_SECRET=arm"},
			method:    "client secret",
			check:     func(s Settings) bool { return s.ClientSecret == "arm" },
		},
		"azidentity's order among its own variables": {
			variables: []string{"AZURE_CLIENT_ID=sdk", "AZURE_TENANT_ID=sdk", "AZURE_CLIENT_CERTIFICATE_PATH=sdk.pem", "AZURE_CLIENT_CERTIFICATE_PASSWORD=sdk", "AZURE_CLIENT_SECRET=sdk"},
			method:    "client secret",
			check:     func(s Settings) bool { return s.ClientCertificatePath+s.ClientCertificatePassword == "" },
		},
		"OIDC of the principal of other tools": {
			settings:  Settings{UseOIDC: new(true)},
			variables: []string{"AZURE_CLIENT_ID=sdk", "AZURE_TENANT_ID=sdk", "AZURE_CLIENT_SECRET=sdk", "ARM_OIDC_TOKEN_FILE_PATH=arm"},
			method:    "OIDC (token file)",
			check:     func(s Settings) bool { return s.ClientID == "sdk" && s.TenantID == "sdk" && s.ClientSecret == "" },
		},
		"those of the SDK alone": {
			variables: []string{"AZURE_CLIENT_ID=sdk", "AZURE_TENANT_ID=sdk", "AZURE_CLIENT_CERTIFICATE_PATH=sdk.pem", "AZURE_CLIENT_CERTIFICATE_PASSWORD=sdk"},
			method:    "client certificate",
			check: func(s Settings) bool {
				return s.ClientCertificatePath == "sdk.pem" && s.ClientCertificatePassword == "sdk"
			},
		},
		"a secret that is set leaves no room for another method": {
			settings: Settings{ClientID: "client", TenantID: "tenant", ClientSecret: "secret"},
			variables: []string{
				"ARM_CLIENT_ID=arm", "ARM_CLIENT_CERTIFICATE_PATH=arm.pfx", "ARM_CLIENT_CERTIFICATE_PASSWORD=arm", "ARM_CLIENT_SECRET_FILE_PATH=arm",
				"ARM_USE_OIDC=true", "ARM_OIDC_TOKEN=arm", "ARM_USE_MSI=true",
			},
			method: "client secret",
			check: func(s Settings) bool {
				return s.ClientID == "client" && s.ClientCertificatePath+s.ClientCertificatePassword+s.ClientSecretFilePath+s.OIDCToken == "" && s.UseOIDC == nil && s.UseMSI == nil
			},
		},
		"OIDC that is set leaves no room for a secret": {
			settings:  Settings{UseOIDC: new(true)},
			variables: []string{"ARM_CLIENT_ID=arm", "ARM_TENANT_ID=arm", "ARM_CLIENT_SECRET=arm", "AZURE_CLIENT_SECRET=sdk", "ARM_OIDC_TOKEN_FILE_PATH=arm"},
			method:    "OIDC (token file)",
			check:     func(s Settings) bool { return s.ClientSecret == "" },
		},
		"azurerm's order among its own variables": {
			variables: []string{"ARM_CLIENT_ID=arm", "ARM_TENANT_ID=arm", "ARM_USE_OIDC=true", "ARM_OIDC_TOKEN=arm", "ARM_USE_MSI=true", "ARM_CLIENT_SECRET=arm", "ARM_CLIENT_CERTIFICATE_PATH=arm.pfx"},
			method:    "client certificate",
			check:     func(s Settings) bool { return s.ClientSecret == "" && s.UseOIDC == nil },
		},
		"a variable of another method than that of azurerm's": {
			variables: []string{"ARM_CLIENT_ID=arm", "ARM_TENANT_ID=arm", "ARM_USE_OIDC=true", "ARM_OIDC_TOKEN=arm", "AZURE_CLIENT_SECRET=sdk"},
			method:    "OIDC (token)",
			check:     func(s Settings) bool { return s.ClientSecret == "" },
		},
		"GitHub Actions": {
			settings:  Settings{UseOIDC: new(true), ClientID: "client", TenantID: "tenant"},
			variables: []string{"ACTIONS_ID_TOKEN_REQUEST_URL=https://github.example", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=request"},
			method:    "OIDC (GitHub Actions)",
			check: func(s Settings) bool {
				return s.OIDCRequestURL == "https://github.example" && s.OIDCRequestToken == "request"
			},
		},
		"GitHub Actions without use_oidc": {
			variables: []string{"ACTIONS_ID_TOKEN_REQUEST_URL=https://github.example", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=request", "ARM_OIDC_TOKEN=arm"},
			method:    "Azure CLI",
			check:     func(s Settings) bool { return s.OIDCRequestURL+s.OIDCRequestToken+s.OIDCToken == "" },
		},
		"Azure Pipelines": {
			variables: []string{
				"ARM_USE_OIDC=true", "ARM_CLIENT_ID=arm", "ARM_TENANT_ID=arm", "SYSTEM_OIDCREQUESTURI=https://pipelines.example", "SYSTEM_ACCESSTOKEN=request",
				"AZURESUBSCRIPTION_SERVICE_CONNECTION_ID=task", "ARM_OIDC_AZURE_SERVICE_CONNECTION_ID=arm",
			},
			method: "OIDC (Azure Pipelines)",
			check: func(s Settings) bool {
				return s.ADOPipelineServiceConnectionID == "arm" && s.OIDCRequestURL == "https://pipelines.example"
			},
		},
		"a token that is set leaves no room for a request": {
			settings:  Settings{UseOIDC: new(true), ClientID: "client", TenantID: "tenant", OIDCToken: "token"},
			variables: []string{"ARM_OIDC_TOKEN_FILE_PATH=arm", "ACTIONS_ID_TOKEN_REQUEST_URL=https://github.example", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=request"},
			method:    "OIDC (token)",
			check:     func(s Settings) bool { return s.OIDCTokenFilePath+s.OIDCRequestURL == "" },
		},
		"AKS workload identity": {
			settings:  Settings{UseAKSWorkloadIdentity: new(true)},
			variables: []string{"AZURE_CLIENT_ID=pod", "AZURE_TENANT_ID=pod", "AZURE_FEDERATED_TOKEN_FILE=/var/run/token", "AZURE_AUTHORITY_HOST=https://login.microsoftonline.us/"},
			method:    "AKS workload identity",
			check: func(s Settings) bool {
				return s.OIDCTokenFilePath == "/var/run/token" && s.Environment == "usgovernment"
			},
		},
		"a pod's token file without use_aks_workload_identity": {
			variables: []string{"AZURE_CLIENT_ID=pod", "AZURE_TENANT_ID=pod", "AZURE_FEDERATED_TOKEN_FILE=/var/run/token", "ARM_USE_MSI=true"},
			method:    "managed identity",
			check:     func(s Settings) bool { return s.OIDCTokenFilePath+s.ClientID+s.TenantID == "" },
		},
		"where a custom cloud is": {
			variables: []string{
				"ARM_ENVIRONMENT=Custom", "ARM_ACTIVE_DIRECTORY_AUTHORITY_HOST=https://login.example", "ARM_RESOURCE_MANAGER_ENDPOINT=https://manage.example",
				"ARM_RESOURCE_MANAGER_AUDIENCE=https://manage.example/", "ARM_DISABLE_INSTANCE_DISCOVERY=true",
			},
			method: "Azure CLI",
			check: func(s Settings) bool {
				return s.Endpoint == Endpoint{"https://login.example", "https://manage.example", "https://manage.example/"} && isTrue(s.DisableInstanceDiscovery)
			},
		},
		"where a custom cloud would be": {
			settings:  Settings{Environment: "china"},
			variables: []string{"ARM_ENVIRONMENT=custom", "ARM_ACTIVE_DIRECTORY_AUTHORITY_HOST=https://login.example", "AZURE_AUTHORITY_HOST=https://login.microsoftonline.com"},
			method:    "Azure CLI",
			check:     func(s Settings) bool { return s.Endpoint == Endpoint{} && s.Environment == "china" },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings, err := test.settings.WithEnvironment(environment(test.variables...))
			if err != nil {
				t.Fatal(err)
			}
			account, err := NewAccount(settings, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if account.Method() != test.method {
				t.Errorf("logs in with %s, want %s", account.Method(), test.method)
			}
			if !test.check(settings) {
				t.Errorf("settings are %+v", settings)
			}
		})
	}
}

func TestEnvironmentThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for variable, names := range map[string]string{
		"ARM_USE_OIDC=perhaps":                         "use_oidc",
		"AZURE_AUTHORITY_HOST=https://login.example/x": "environment",
	} {
		_, err := Settings{}.WithEnvironment(environment(variable))
		var fault *SettingsError
		name, _, _ := strings.Cut(variable, "=")
		if !errors.As(err, &fault) || !slices.Equal(fault.Names, []string{names}) || !strings.Contains(fault.Reason, name) {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

func TestWorkloadIdentityOfAnother(t *testing.T) {
	t.Parallel()
	pod := []string{"AZURE_CLIENT_ID=pod", "AZURE_TENANT_ID=tenant", "AZURE_FEDERATED_TOKEN_FILE=/var/run/token"}
	for _, test := range []struct {
		settings  Settings
		variables []string
		names     []string
		says      string
	}{
		{Settings{UseAKSWorkloadIdentity: new(true)}, []string{"ARM_CLIENT_ID=arm", "ARM_TENANT_ID=tenant"}, []string{"client_id"}, "client_id (from ARM_CLIENT_ID)"},
		{Settings{ClientID: "other", TenantID: "other"}, []string{"ARM_USE_AKS_WORKLOAD_IDENTITY=true"}, []string{"tenant_id", "client_id"}, "tenant_id, client_id"},
	} {
		_, err := test.settings.WithEnvironment(environment(append(test.variables, pod...)...))
		var fault *SettingsError
		if !errors.As(err, &fault) || !slices.Equal(fault.Names, test.names) || !strings.Contains(fault.Reason, test.says) {
			t.Errorf("%v: %v", test.variables, err)
		}
	}
	got, err := Settings{UseAKSWorkloadIdentity: new(true), ClientID: "POD"}.WithEnvironment(environment(pod...))
	if err != nil || got.ClientID != "POD" || got.TenantID != "tenant" {
		t.Errorf("the same identity: %+v, %v", got, err)
	}
}

func TestSettingsFromWhichNoCredentialFollows(t *testing.T) {
	t.Parallel()
	principal := func(s Settings) Settings { s.ClientID, s.TenantID = "client", "tenant"; return s }
	tests := map[string]struct {
		settings  Settings
		variables []string
		names     []string
		says      string
	}{
		"secret and certificate":     {settings: principal(Settings{ClientSecret: "hush", ClientCertificatePath: "x.pfx"}), names: []string{"client_certificate_path", "client_secret"}, says: "more than one way to log in"},
		"secret and OIDC":            {settings: principal(Settings{ClientSecret: "hush", UseOIDC: new(true), OIDCToken: "hush"}), names: []string{"client_secret", "use_oidc", "oidc_token"}, says: "more than one way"},
		"secret and its file":        {settings: principal(Settings{ClientSecret: "hush", ClientSecretFilePath: "x"}), names: []string{"client_secret", "client_secret_file_path"}, says: "more than one client secret"},
		"ID of client and its file":  {settings: Settings{ClientID: "x", ClientIDFilePath: "x"}, names: []string{"client_id", "client_id_file_path"}, says: "more than one client ID"},
		"token and request":          {settings: principal(Settings{UseOIDC: new(true), OIDCToken: "hush", OIDCRequestURL: "https://x"}), names: []string{"oidc_token", "oidc_request_url"}, says: "more than one ID token"},
		"secret without principal":   {variables: []string{"ARM_CLIENT_SECRET=hush"}, names: []string{"tenant_id", "client_id"}, says: "ARM_TENANT_ID and ARM_CLIENT_ID), which logging in takes with client_secret (from ARM_CLIENT_SECRET)"},
		"certificate without tenant": {settings: Settings{ClientIDFilePath: "x", ClientCertificatePath: "x.pfx"}, names: []string{"tenant_id"}, says: "client_certificate_path"},
		"certificate as text":        {settings: principal(Settings{ClientCertificate: "-----hush"}), names: []string{"client_certificate"}, says: "not base64"},
		"password alone":             {settings: Settings{ClientCertificatePassword: "hush"}, names: []string{"client_certificate_password"}, says: "without effect"},
		"token without use_oidc":     {settings: principal(Settings{OIDCToken: "hush"}), names: []string{"oidc_token"}, says: "use_oidc = true"},
		"OIDC with nothing":          {settings: principal(Settings{UseOIDC: new(true)}), names: []string{"use_oidc"}, says: "id-token: write"},
		"OIDC without request token": {settings: principal(Settings{UseOIDC: new(true), OIDCRequestURL: "https://x"}), names: []string{"oidc_request_token"}, says: "SYSTEM_ACCESSTOKEN"},
		"OIDC without request URL":   {settings: principal(Settings{UseOIDC: new(true), OIDCRequestToken: "hush"}), names: []string{"oidc_request_url"}, says: "oidc_request_token"},
		"OIDC in clear":              {settings: principal(Settings{UseOIDC: new(true), OIDCRequestToken: "hush", OIDCRequestURL: "http://hush"}), names: []string{"oidc_request_url"}, says: "https"},
		"Azure Pipelines without service connection": {
			settings: principal(Settings{UseOIDC: new(true)}), variables: []string{"SYSTEM_OIDCREQUESTURI=https://x", "SYSTEM_ACCESSTOKEN=hush"},
			names: []string{"ado_pipeline_service_connection_id"}, says: "service connection",
		},
		"workload identity outside a pod": {settings: principal(Settings{UseAKSWorkloadIdentity: new(true)}), names: []string{"use_aks_workload_identity"}, says: "azure.workload.identity/use"},
		"nothing":                         {settings: Settings{UseCLI: new(false)}, names: []string{"use_cli"}, says: "no way to log in"},
		"too many tenants":                {settings: Settings{AuxiliaryTenantIDs: []string{"1", "2", "3", "4"}}, names: []string{"auxiliary_tenant_ids"}, says: "at most 3"},
		"tenants of a managed identity":   {settings: Settings{UseMSI: new(true)}, variables: []string{"ARM_AUXILIARY_TENANT_IDS=other"}, names: []string{"auxiliary_tenant_ids"}, says: "own tenant only"},
		"unknown cloud":                   {variables: []string{"ARM_ENVIRONMENT=german"}, names: []string{"environment"}, says: `"german" is no cloud of Azure that is known; set one of china, public, usgovernment, custom: environment (from ARM_ENVIRONMENT)`},
		"half a custom cloud":             {settings: Settings{Environment: "custom", Endpoint: Endpoint{ResourceManagerEndpoint: "https://x"}}, names: []string{"endpoint.active_directory_authority_host", "endpoint.resource_manager_audience"}, says: "where the cloud is"},
		"custom cloud in clear":           {settings: Settings{Environment: "custom", Endpoint: Endpoint{"http://x", "https://x", "x"}}, names: []string{"endpoint.active_directory_authority_host"}, says: "https"},
		"endpoint of a known cloud":       {settings: Settings{Endpoint: Endpoint{ResourceManagerEndpoint: "https://x"}}, names: []string{"endpoint.resource_manager_endpoint"}, says: `environment = "custom"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings, err := test.settings.WithEnvironment(environment(test.variables...))
			if err != nil {
				t.Fatal(err)
			}
			_, err = NewAccount(settings, Options{})
			var fault *SettingsError
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want a *SettingsError", err)
			}
			if !slices.Equal(fault.Names, test.names) || !strings.Contains(fault.Reason, test.says) {
				t.Errorf("%v: %v", fault.Names, fault)
			}
			if strings.Contains(fault.Reason, "hush") {
				t.Errorf("a value is quoted: %v", fault)
			}
		})
	}
}

func TestCloudsKeepTheirOwnMaps(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		settings                               Settings
		name, authority, endpoint, acr, suffix string
	}{
		{Settings{}, "public", "https://login.microsoftonline.com/", "https://management.azure.com", "azurecr.io", "vault.azure.net"},
		{Settings{Environment: "USGovernmentL4"}, "usgovernment", "https://login.microsoftonline.us/", "https://management.usgovcloudapi.net", "azurecr.us", "vault.usgovcloudapi.net"},
		{Settings{Environment: "china"}, "china", "https://login.chinacloudapi.cn/", "https://management.chinacloudapi.cn", "azurecr.cn", "vault.azure.cn"},
		{
			Settings{Environment: "custom", Endpoint: Endpoint{"https://login.example", "https://manage.example", "audience"}},
			"custom", "https://login.example", "https://manage.example", "", "",
		},
	} {
		account, err := NewAccount(test.settings, Options{UserAgent: "aksmesh/1"})
		if err != nil {
			t.Fatal(err)
		}
		clear(account.Cloud().Configuration.Services) // of the caller's own
		got := account.Cloud()
		if got.Name != test.name || got.Configuration.ActiveDirectoryAuthorityHost != test.authority || got.Configuration.Services["resourceManager"].Endpoint != test.endpoint ||
			got.Configuration.Services["resourceManager"].Audience == "" || got.RegistrySuffix != test.acr || got.VaultSuffix != test.suffix {
			t.Errorf("%+v", got)
		}
		if options := account.ClientOptions(); options.Cloud.ActiveDirectoryAuthorityHost != test.authority || options.Telemetry.ApplicationID != "aksmesh/1" {
			t.Errorf("%+v", options)
		}
	}
}

func TestWhatIsSetIsSeenFromOutside(t *testing.T) {
	t.Parallel()
	account, err := NewAccount(Settings{
		SubscriptionID: "subscription", TenantID: "tenant", ClientID: "client", AuxiliaryTenantIDs: []string{"other"},
		ClientCertificate: base64.StdEncoding.EncodeToString([]byte("read at first use")),
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if account.SubscriptionID() != "subscription" || account.TenantID() != "tenant" || !slices.Equal(account.AuxiliaryTenantIDs(), []string{"other"}) {
		t.Errorf("%s %s %v", account.SubscriptionID(), account.TenantID(), account.AuxiliaryTenantIDs())
	}
	if !account.noDiscovery() {
		t.Error("asks whether an authority is Microsoft's that the SDK itself names")
	}
}
