package provider

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

const (
	someSubscription = "00000000-0000-4000-8000-000000000001"
	someClient       = "00000000-0000-4000-8000-000000000002"
	someTenant       = "00000000-0000-4000-8000-000000000003"
	someClusterID    = "/subscriptions/" + someSubscription + "/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/prod"
)

// later is a value that is not known yet.
type later struct{}

// block is the attributes that a configuration sets of an object.
type block map[string]any

// value is the block as Terraform hands it over, with null for all that is not set.
func (b block) value(t *testing.T, as tftypes.Type) tftypes.Value {
	t.Helper()
	object, ok := as.(tftypes.Object)
	if !ok {
		t.Fatalf("%s is not an object", as)
	}
	attributes := map[string]tftypes.Value{}
	for name, attribute := range object.AttributeTypes {
		switch given := b[name].(type) {
		case nil:
			attributes[name] = tftypes.NewValue(attribute, nil)
		case later:
			attributes[name] = tftypes.NewValue(attribute, tftypes.UnknownValue)
		case block:
			attributes[name] = given.value(t, attribute)
		case []string:
			var texts []tftypes.Value
			for _, text := range given {
				texts = append(texts, tftypes.NewValue(tftypes.String, text))
			}
			attributes[name] = tftypes.NewValue(attribute, texts)
		default:
			attributes[name] = tftypes.NewValue(attribute, given)
		}
	}
	for name := range b {
		if _, ok := attributes[name]; !ok {
			t.Fatalf("there is no attribute %s", name)
		}
	}
	return tftypes.NewValue(object, attributes)
}

// configured validates and configures a provider, which dials nobody, and returns
// what it complains about and, if nothing, its session.
func configured(t *testing.T, config block, environment map[string]string) (complaints []string, got *session) {
	t.Helper()
	p := &meshProvider{version: "test", now: time.Now, getenv: func(name string) string { return environment[name] }}
	var schema provider.SchemaResponse
	p.Schema(t.Context(), provider.SchemaRequest{}, &schema)
	value := config.value(t, schema.Schema.Type().TerraformType(t.Context()))

	server := providerserver.NewProtocol6(p)()
	encoded, err := tfprotov6.NewDynamicValue(value.Type(), value)
	if err != nil {
		t.Fatal(err)
	}
	validated, err := server.ValidateProviderConfig(t.Context(), &tfprotov6.ValidateProviderConfigRequest{Config: &encoded})
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range validated.Diagnostics {
		complaints = append(complaints, found.Attribute.String()+": "+found.Summary+": "+found.Detail)
	}
	if len(complaints) > 0 {
		return complaints, nil
	}
	var resp provider.ConfigureResponse
	p.Configure(t.Context(), provider.ConfigureRequest{Config: tfsdk.Config{Raw: value, Schema: schema.Schema}}, &resp)
	for _, found := range resp.Diagnostics {
		at := ""
		if of, ok := found.(diag.DiagnosticWithPath); ok {
			at = of.Path().String()
		}
		complaints = append(complaints, at+": "+found.Summary()+": "+found.Detail())
	}
	if resp.ResourceData == nil {
		return complaints, nil
	}
	return complaints, sessionOf(resp.ResourceData, &resp.Diagnostics)
}

// with is a block with more attributes.
func (b block) with(more block) block {
	all := maps.Clone(b)
	maps.Copy(all, more)
	return all
}

func TestProvider_aksBadInput(t *testing.T) {
	t.Parallel()
	named := block{"id": someClusterID, "client_id": someClient, "tenant_id": someTenant, "client_secret": "not-to-be-seen"}
	byName := block{"resource_group_name": "rg", "name": "prod", "use_cli": true}
	for name, test := range map[string]struct {
		aks, kubernetes block
		environment     map[string]string
		says            []string
	}{
		"no ID":                       {aks: block{"id": "prod"}, says: []string{"aks.id", "the resource ID of an AKS cluster"}},
		"the ID of something else":    {aks: block{"id": strings.Replace(someClusterID, "managedClusters", "fleets", 1)}, says: []string{"aks.id", "the resource ID of an AKS cluster"}},
		"named twice":                 {aks: named.with(block{"name": "prod"}), says: []string{"aks.id", "resource_group_name and name say which cluster it is too"}},
		"a name alone":                {aks: block{"name": "prod"}, says: []string{"aks.resource_group_name", "missing beside name"}},
		"a group alone":               {aks: block{"resource_group_name": "rg"}, says: []string{"aks.name", "missing beside resource_group_name"}},
		"a name that is none":         {aks: byName.with(block{"name": "-prod"}), says: []string{"aks.name", "the name of an AKS cluster"}},
		"a group that is none":        {aks: byName.with(block{"resource_group_name": "rg."}), says: []string{"aks.resource_group_name", "without a dot at the end"}},
		"no subscription":             {aks: byName, says: []string{"aks", "subscription_id", "ARM_SUBSCRIPTION_ID", `"rg"`}},
		"another subscription":        {aks: named.with(block{"subscription_id": someClient}), says: []string{"aks.subscription_id", someSubscription, "leave subscription_id out"}},
		"a subscription by its name":  {aks: byName.with(block{"subscription_id": "production"}), says: []string{"aks.subscription_id", "is not an ID"}},
		"a client by its name":        {aks: named.with(block{"client_id": "pipeline"}), says: []string{"aks.client_id", "is not an ID"}},
		"two clusters":                {aks: named, kubernetes: block{"config_path": "~/.kube/config"}, says: []string{"aks.id", "kubernetes", "config_path", "either here or there"}},
		"two clusters by name":        {aks: byName, kubernetes: block{"host": "https://prod", "token": "not-to-be-seen"}, says: []string{"aks.name", "kubernetes", "host, token"}},
		"a proxy for no cluster":      {aks: block{"proxy_url": "http://u:not-to-be-seen@proxy:1", "use_cli": true}, kubernetes: block{"host": "https://prod"}, says: []string{"aks.proxy_url", "aks names none"}},
		"admin of no cluster":         {aks: block{"use_admin_credentials": true}, says: []string{"aks.use_admin_credentials", "aks names none"}},
		"a proxy of another kind":     {aks: named.with(block{"proxy_url": "ftp://u:not-to-be-seen@proxy"}), says: []string{"aks.proxy_url", "socks5://"}},
		"a proxy that is none":        {aks: named.with(block{"proxy_url": "http://u:not-to-be-seen@proxy:port"}), says: []string{"aks.proxy_url", "names no host"}},
		"no duration":                 {aks: named.with(block{"request_timeout": "soon"}), says: []string{"aks.request_timeout", "Go duration"}},
		"a certificate as PEM":        {aks: block{"id": someClusterID, "client_certificate": "-----BEGIN not-to-be-seen"}, says: []string{"aks.client_certificate", "filebase64"}},
		"a certificate and a secret":  {aks: named.with(block{"client_certificate_path": "sp.pfx"}), says: []string{"aks", "client_certificate_path", "client_secret"}},
		"a secret twice":              {aks: named.with(block{"client_secret_file_path": "secret"}), says: []string{"aks", "client_secret", "client_secret_file_path"}},
		"a secret of nobody":          {aks: block{"id": someClusterID, "tenant_id": someTenant, "client_secret": "not-to-be-seen"}, says: []string{"aks", "client_id", "ARM_CLIENT_ID"}},
		"a secret of no tenant":       {aks: block{"id": someClusterID, "client_id": someClient, "client_secret": "not-to-be-seen"}, says: []string{"aks", "tenant_id", "ARM_TENANT_ID"}},
		"OIDC without a token":        {aks: block{"id": someClusterID, "client_id": someClient, "tenant_id": someTenant, "use_oidc": true}, says: []string{"aks", "use_oidc", "oidc_token", "oidc_request_url"}},
		"OIDC by HTTP":                {aks: named.with(block{"oidc_request_url": "http://issuer"}), says: []string{"aks.oidc_request_url", "begins with https://"}},
		"a cloud that is none":        {aks: named.with(block{"environment": "germany"}), says: []string{"aks.environment", "usgovernment"}},
		"a custom cloud somewhere":    {aks: named.with(block{"environment": "custom"}), says: []string{"aks", "endpoint"}},
		"an endpoint of the public":   {aks: named.with(block{"endpoint": block{"active_directory_authority_host": "https://a", "resource_manager_endpoint": "https://b", "resource_manager_audience": "https://c"}}), says: []string{"aks", "endpoint", "custom"}},
		"an endpoint by HTTP":         {aks: named.with(block{"environment": "custom", "endpoint": block{"active_directory_authority_host": "http://a", "resource_manager_endpoint": "https://b", "resource_manager_audience": "https://c"}}), says: []string{"aks.endpoint.active_directory_authority_host", "begins with https://"}},
		"too many tenants":            {aks: named.with(block{"auxiliary_tenant_ids": []string{"a", "b", "c", "d"}}), says: []string{"aks.auxiliary_tenant_ids", "at most 3"}},
		"no way to log in":            {aks: block{"id": someClusterID, "use_cli": false}, says: []string{"aks", "use_cli"}},
		"a variable that is no truth": {aks: block{"id": someClusterID}, environment: map[string]string{"ARM_USE_OIDC": "perhaps"}, says: []string{"aks", "ARM_USE_OIDC", "perhaps"}},
		"half a way of variables":     {aks: block{"id": someClusterID}, environment: map[string]string{"ARM_CLIENT_SECRET": "not-to-be-seen"}, says: []string{"aks", "ARM_CLIENT_SECRET", "client_id"}},
		"nothing at all":              {says: []string{"kubernetes", "No way to reach a cluster is given", "the provider's aks block"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := block{}
			if test.aks != nil {
				config["aks"] = test.aks
			}
			if test.kubernetes != nil {
				config["kubernetes"] = test.kubernetes
			}
			complaints, _ := configured(t, config, test.environment)
			if len(complaints) != 1 {
				t.Fatalf("want one error, got %q", complaints)
			}
			for _, want := range test.says {
				if !strings.Contains(complaints[0], want) {
					t.Errorf("the error does not say %q: %s", want, complaints[0])
				}
			}
			if strings.Contains(complaints[0], "not-to-be-seen") {
				t.Errorf("the error tells a secret: %s", complaints[0])
			}
		})
	}
}

func TestProvider_aksConfigured(t *testing.T) {
	t.Parallel()
	login := block{"client_id": someClient, "tenant_id": someTenant, "client_secret": "s"}
	for name, test := range map[string]struct {
		config      block
		environment map[string]string
		check       func(t *testing.T, s *session)
	}{
		"by ID": {
			config: block{"aks": login.with(block{"id": someClusterID})},
			// Of another subscription, and of another cluster.
			environment: map[string]string{"ARM_SUBSCRIPTION_ID": someTenant, "KUBE_CONFIG_PATH": "/nonexistent"},
			check: func(t *testing.T, s *session) {
				t.Helper()
				account, err := s.azure()
				if err != nil || account.SubscriptionID() != someSubscription || s.aks.String() != "AKS cluster rg/prod" {
					t.Errorf("got %v in subscription %s, %v", s.aks.Access, account.SubscriptionID(), err)
				}
				if _, ok := s.knownCluster(); !ok {
					t.Error("there is no cluster")
				}
			},
		},
		"by name": {
			config:      block{"aks": block{"resource_group_name": "rg", "name": "prod"}},
			environment: map[string]string{"ARM_SUBSCRIPTION_ID": someSubscription, "ARM_CLIENT_ID": someClient, "ARM_TENANT_ID": someTenant, "ARM_CLIENT_SECRET": "s"},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if got := s.aks.id.Path(); got != someClusterID {
					t.Errorf("the cluster is %s", got)
				}
				if account, err := s.azure(); err != nil || account.Method() != "client secret" {
					t.Errorf("log in by %v, %v", account.Method(), err)
				}
			},
		},
		"credentials beside another cluster": {
			config: block{"aks": login, "kubernetes": block{"host": "https://prod.example.com"}},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if _, err := s.azure(); err != nil || s.aks.Access != nil || s.cluster.Host() != "https://prod.example.com" {
					t.Errorf("cluster %s, AKS %v, %v", s.cluster.Host(), s.aks.Access, err)
				}
			},
		},
		"credentials beside the environment": {
			config:      block{"aks": login},
			environment: map[string]string{"KUBE_HOST": "https://prod.example.com"},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if got := s.cluster.Host(); got != "https://prod.example.com" {
					t.Errorf("the cluster is %s", got)
				}
			},
		},
		"credentials alone": {
			config: block{"aks": login},
			check: func(t *testing.T, s *session) {
				t.Helper()
				_, err := s.cluster.Version(t.Context())
				if err == nil || !strings.Contains(err.Error(), "no way to reach a cluster is given") || !strings.Contains(err.Error(), "aks block") {
					t.Errorf("asked for what no cluster can answer: %v", err)
				}
			},
		},
		"no block, and an environment that makes no sense": {
			config:      block{"kubernetes": block{"host": "https://prod.example.com"}},
			environment: map[string]string{"ARM_CLIENT_SECRET": "s"},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if _, err := s.azure(); err == nil || !strings.Contains(err.Error(), "ARM_CLIENT_SECRET") {
					t.Errorf("logging in: %v", err)
				}
			},
		},
		"a cluster that is not known yet": {
			config: block{"aks": login.with(block{"id": later{}})},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if _, ok := s.knownCluster(); ok || s.aks.Access != nil || !s.aks.awaited {
					t.Error("there is a cluster already")
				}
				// Registries, vaults and other clusters need no more than this.
				if account, err := s.azure(); err != nil || account.Method() != "client secret" {
					t.Errorf("logging in: %v", err)
				}
			},
		},
		"a way to the cluster that is not known yet": {
			config: block{"aks": login.with(block{"id": someClusterID, "proxy_url": later{}})},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if account, err := s.azure(); err != nil || account.SubscriptionID() != someSubscription || s.aks.Access != nil || !s.aks.awaited {
					t.Errorf("AKS %v; logging in: %v", s.aks.Access, err)
				}
			},
		},
		"who logs in that is not known yet": {
			config: block{"aks": login.with(block{"id": someClusterID, "client_secret": later{}})},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if _, err := s.azure(); err == nil || !strings.Contains(err.Error(), "not known yet") {
					t.Errorf("logging in: %v", err)
				}
			},
		},
		"a block that is not known yet": {
			config: block{"aks": later{}},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if _, err := s.azure(); err == nil || !strings.Contains(err.Error(), "not known yet") {
					t.Errorf("logging in: %v", err)
				}
			},
		},
		"a cluster, and charts that are not known yet": {
			config: block{"aks": login.with(block{"id": someClusterID}), "helm": block{"cache_dir": later{}}},
			check: func(t *testing.T, s *session) {
				t.Helper()
				if _, known := s.knownCluster(); known || s.aks.Access == nil || s.aks.String() != "AKS cluster rg/prod" {
					t.Errorf("a cluster to talk to: %t; AKS %v", known, s.aks.Access)
				}
			},
		},
		"the way through the network": {
			config: block{"aks": login.with(block{"id": someClusterID, "proxy_url": "http://proxy:1", "tls_server_name": "tunnel", "use_admin_credentials": true})},
			check: func(t *testing.T, s *session) {
				t.Helper()
				same, other := s.aks.id, s.aks.id
				same.ResourceGroup, other.Name = strings.ToUpper(same.ResourceGroup), "other"
				if got := s.aks.optionsFor(same); !got.Admin || got.ProxyURL != "http://proxy:1" || got.TLSServerName != "tunnel" {
					t.Errorf("to the cluster: %+v", got)
				}
				if got := s.aks.optionsFor(other); !got.Admin || got.ProxyURL != "" || got.TLSServerName != "" {
					t.Errorf("to another: %+v", got)
				}
			},
		},
		"another cluster that is not known yet": {
			config: block{"aks": login, "kubernetes": block{"host": later{}}},
			check: func(t *testing.T, s *session) {
				t.Helper()
				_, known := s.knownCluster()
				if _, err := s.azure(); err != nil || known {
					t.Errorf("a cluster: %v; logging in: %v", known, err)
				}
			},
		},
		"what may turn out to be null": {
			config: block{"aks": login.with(block{"id": later{}, "name": later{}, "resource_group_name": "rg", "subscription_id": later{}}), "kubernetes": later{}},
			check:  func(*testing.T, *session) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			complaints, s := configured(t, test.config, test.environment)
			if len(complaints) != 0 || s == nil {
				t.Fatalf("complaints %q", slices.Compact(complaints))
			}
			test.check(t, s)
		})
	}
}
