package provider

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	frameworkresource "github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	frameworktypes "github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testcluster"
)

// authorityProvider is somebody else's provider, with the resource
// `authority_certificate`, which signs requests, as tls_locally_signed_cert and
// the resources of Vault do.
type authorityProvider struct {
	sign func(request string) (string, error)
}

func (p authorityProvider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "authority"
}

func (authorityProvider) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}

func (authorityProvider) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {
}

func (authorityProvider) DataSources(context.Context) []func() datasource.DataSource { return nil }

func (p authorityProvider) Resources(context.Context) []func() frameworkresource.Resource {
	return []func() frameworkresource.Resource{func() frameworkresource.Resource { return signedCertificate(p) }}
}

type signedCertificate struct {
	sign func(request string) (string, error)
}

type signedCertificateModel struct {
	RequestPEM     frameworktypes.String `tfsdk:"request_pem"`
	CertificatePEM frameworktypes.String `tfsdk:"certificate_pem"`
}

func (signedCertificate) Metadata(_ context.Context, _ frameworkresource.MetadataRequest, resp *frameworkresource.MetadataResponse) {
	resp.TypeName = "authority_certificate"
}

func (signedCertificate) Schema(_ context.Context, _ frameworkresource.SchemaRequest, resp *frameworkresource.SchemaResponse) {
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"request_pem":     schema.StringAttribute{Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()}},
		"certificate_pem": schema.StringAttribute{Computed: true},
	}}
}

func (s signedCertificate) Create(ctx context.Context, req frameworkresource.CreateRequest, resp *frameworkresource.CreateResponse) {
	var model signedCertificateModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &model)...)
	certificate, err := s.sign(model.RequestPEM.ValueString())
	if err != nil {
		resp.Diagnostics.AddError("Unable to Sign", err.Error())
		return
	}
	model.CertificatePEM = frameworktypes.StringValue(certificate)
	resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
}

func (signedCertificate) Read(context.Context, frameworkresource.ReadRequest, *frameworkresource.ReadResponse) {
}

func (signedCertificate) Update(context.Context, frameworkresource.UpdateRequest, *frameworkresource.UpdateResponse) {
}

func (signedCertificate) Delete(context.Context, frameworkresource.DeleteRequest, *frameworkresource.DeleteResponse) {
}

// withAuthority are the providers of a test with a user's own authority beside.
func withAuthority(t *testing.T, authority ownAuthority) map[string]func() (tfprotov6.ProviderServer, error) {
	t.Helper()
	all := maps.Clone(testProviders)
	all["authority"] = providerserver.NewProtocol6WithError(authorityProvider{sign: func(request string) (string, error) {
		return authority.answer(t, request)
	}})
	return all
}

// answer signs a request in PEM, for a year.
func (a ownAuthority) answer(t testing.TB, request string) (string, error) {
	t.Helper()
	block, _ := pem.Decode([]byte(request))
	if block == nil {
		return "", errors.New("the request is not PEM")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = parsed.CheckSignature()
	}
	if err != nil {
		return "", err
	}
	return a.sign(t, parsed.PublicKey, time.Now().Add(8760*time.Hour)), nil
}

const requestAddress = "aksmesh_issuer_request.this"

// requestConfig is a request of a control plane and, where there is an authority,
// the issuer that it makes of it.
func requestConfig(cluster *testcluster.Cluster, mesh, namespace, body, rest string) string {
	return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
	resource "aksmesh_issuer_request" "this" {
	  mesh      = %q
	  namespace = %q
	  %s
	}
	%s`, mesh, namespace, body, rest))
}

func TestAccIssuerRequest(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	authority := newOwnAuthority(t)
	for mesh, secret := range map[string]string{"linkerd": "linkerd-identity-issuer", "istio": "cacerts"} {
		t.Run(mesh, func(t *testing.T) {
			t.Parallel()
			namespace := "issuer-request-" + mesh
			issuer := fmt.Sprintf(`
			resource "authority_certificate" "this" { request_pem = aksmesh_issuer_request.this.certificate_request_pem }
			resource "aksmesh_issuer" "this" {
			  mesh        = aksmesh_issuer_request.this.mesh
			  namespace   = aksmesh_issuer_request.this.namespace
			  certificate = { pem = authority_certificate.this.certificate_pem, request_id = aksmesh_issuer_request.this.id }
			  %s
			}`, bundleConfig(authority.root))
			config := func(body string) string { return requestConfig(cluster, mesh, namespace, body, issuer) }
			requested := changing(requestAddress, "certificate_request_pem")
			issued := changing(issuerAddress, "fingerprint_sha256")
			keyOf := func(name, key string) string {
				found, err := cluster.Client().CoreV1().Secrets(namespace).Get(t.Context(), name, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return string(found.Data[key])
			}
			inService := func(*terraform.State) error {
				for _, key := range []string{"tls.key", "ca-key.pem"} {
					if got := keyOf(secret, key); got != "" && regexp.MustCompile(`\s+$`).ReplaceAllString(got, "") != keyOf("aksmesh-issuer-request", "tls.key") {
						return errors.New("the issuer has not the key of the request")
					}
				}
				return nil
			}
			resource.Test(t, resource.TestCase{
				ProtoV6ProviderFactories: withAuthority(t, authority),
				CheckDestroy:             gone(t, cluster, namespace, "aksmesh-issuer-request"),
				Steps: []resource.TestStep{
					{
						// The key is made, the request signed, and the issuer put in service by one apply.
						Config: config(""),
						Check: resource.ComposeTestCheckFunc(requested, issued, inService,
							noKeyInState(t, cluster, namespace, "aksmesh-issuer-request"), noKeyInState(t, cluster, namespace, secret)),
						ConfigStateChecks: []statecheck.StateCheck{
							statecheck.ExpectKnownValue(requestAddress, tfjsonpath.New("id"), knownvalue.StringExact(mesh+"/"+namespace)),
							statecheck.ExpectKnownValue(requestAddress, tfjsonpath.New("certificate_request_pem"), knownvalue.StringRegexp(regexp.MustCompile(`^-----BEGIN CERTIFICATE REQUEST-----\n[^-]+-----END CERTIFICATE REQUEST-----$`))),
							statecheck.ExpectKnownValue(requestAddress, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0)),
							statecheck.ExpectKnownValue(issuerAddress, tfjsonpath.New("rotation_steps"), knownvalue.ListSizeExact(0)),
						},
					},
					{ResourceName: requestAddress, ImportState: true, ImportStateVerify: true, ImportStateId: mesh + "/" + namespace},
					{
						// Another key, and with it another issuer, in one apply again.
						Config:           config("renewal_trigger = \"2\"\n subject = {}"),
						ConfigPlanChecks: plannedFor(requestAddress, plancheck.ResourceActionUpdate),
						Check:            resource.ComposeTestCheckFunc(requested, issued, inService),
					},
					{
						Config:           config("renewal_trigger = \"2\"\n common_name = \"issuer.example\"\n subject = { organization = \"Example\" }"),
						ConfigPlanChecks: plannedFor(requestAddress, plancheck.ResourceActionUpdate),
						Check:            resource.ComposeTestCheckFunc(requested, issued, inService),
					},
					{
						// Somebody takes the key away.
						PreConfig: func() {
							patch := []byte(`{"data":{"tls.key":null}}`)
							if _, err := cluster.Client().CoreV1().Secrets(namespace).Patch(t.Context(), "aksmesh-issuer-request", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
								t.Fatal(err)
							}
						},
						Config: config("renewal_trigger = \"2\"\n common_name = \"issuer.example\"\n subject = { organization = \"Example\" }"),
						ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
							plancheck.ExpectResourceAction(requestAddress, plancheck.ResourceActionUpdate),
							plancheck.ExpectKnownValue(requestAddress, tfjsonpath.New("drift"), knownvalue.ListSizeExact(0)),
						}},
						Check: resource.ComposeTestCheckFunc(requested, issued, inService),
					},
					{
						// Somebody deletes it.
						PreConfig: func() {
							if err := cluster.Client().CoreV1().Secrets(namespace).Delete(t.Context(), "aksmesh-issuer-request", metav1.DeleteOptions{}); err != nil {
								t.Fatal(err)
							}
						},
						Config:           config(""),
						ConfigPlanChecks: plannedFor(requestAddress, plancheck.ResourceActionCreate),
						Check:            resource.ComposeTestCheckFunc(requested, issued, inService),
					},
				},
			})
		})
	}
}

// TestAccIssuerRequest_signedByHand keeps the issuer in service when a new request
// has not been signed yet.
func TestAccIssuerRequest_signedByHand(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	authority := newOwnAuthority(t)
	const namespace = "issuer-request-by-hand"
	var request string
	remember := resource.TestCheckResourceAttrWith(requestAddress, "certificate_request_pem", func(value string) error {
		request = value
		return nil
	})
	file := filepath.Join(t.TempDir(), "issuer.pem")
	sign := func() {
		certificate, err := authority.answer(t, request)
		if err == nil {
			err = os.WriteFile(file, []byte(certificate), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	issuer := fmt.Sprintf(`
	resource "aksmesh_issuer" "this" {
	  mesh        = "linkerd"
	  namespace   = aksmesh_issuer_request.this.namespace
	  certificate = { pem = file(%q), request_id = aksmesh_issuer_request.this.id }
	  %s
	}`, file, bundleConfig(authority.root))
	issued := changing(issuerAddress, "fingerprint_sha256")
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy:             gone(t, cluster, namespace, "linkerd-identity-issuer"),
		Steps: []resource.TestStep{
			{Config: requestConfig(cluster, "linkerd", namespace, "", ""), Check: remember},
			{PreConfig: sign, Config: requestConfig(cluster, "linkerd", namespace, "", issuer), Check: issued},
			{
				// The issuer keeps its own key, which its certificate can be given to
				// again as long as nobody has signed the other one.
				Config: requestConfig(cluster, "linkerd", namespace, `renewal_trigger = "2"`, issuer+"\n"),
				Check:  remember,
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(requestAddress, plancheck.ResourceActionUpdate),
					plancheck.ExpectResourceAction(issuerAddress, plancheck.ResourceActionNoop),
				}},
			},
			{
				PreConfig: func() {
					patch := []byte(`{"data":{"ca.crt":null}}`)
					if _, err := cluster.Client().CoreV1().Secrets(namespace).Patch(t.Context(), "linkerd-identity-issuer", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
						t.Fatal(err)
					}
				},
				Config:           requestConfig(cluster, "linkerd", namespace, `renewal_trigger = "2"`, issuer),
				ConfigPlanChecks: plannedFor(issuerAddress, plancheck.ResourceActionUpdate),
				Check:            publishedAlone(t, cluster, namespace, authority.root),
			},
			{PreConfig: sign, Config: requestConfig(cluster, "linkerd", namespace, `renewal_trigger = "2"`, issuer), Check: issued},
			{
				// A certificate of no key that is here.
				PreConfig: func() {
					if err := os.WriteFile(file, []byte(authority.sign(t, newKey(t).Public(), time.Now().Add(time.Hour))), 0o600); err != nil {
						t.Fatal(err)
					}
				},
				Config:      requestConfig(cluster, "linkerd", namespace, `renewal_trigger = "2"`, issuer),
				ExpectError: regexp.MustCompile(`(?s)certificate.request_id.*does\s+not\s+match\s+the\s+certificate`),
			},
		},
	})
}

func TestAccIssuerRequest_foreign(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	namespace := cluster.Namespace(t)
	createSecret(t, cluster, namespace, "aksmesh-issuer-request", map[string]string{"tls.key": "somebody else's"})
	config := requestConfig(cluster, "linkerd", namespace, "", "")
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		Steps: []resource.TestStep{
			{
				Config:      config,
				ExpectError: regexp.MustCompile(`(?s)Secret ` + namespace + `/aksmesh-issuer-request\s+already\s+exists.*linkerd/` + namespace),
			},
			{
				Config:       config,
				ResourceName: requestAddress, ImportState: true, ImportStateId: "linkerd/" + namespace,
				ExpectError: regexp.MustCompile(`(?s)Unable to Read Issuer Request.*malformed\s+certificate\s+request`),
			},
		},
	})
}

func TestIssuerRequest_badInput(t *testing.T) {
	t.Parallel()
	expectInvalid(t, "aksmesh_issuer_request", map[string]invalidInput{
		`mesh = "consul"`: {"mesh", "value must be one of"},
		"mesh = \"linkerd\"\n algorithm = \"ECDSA-P384\"":  {"algorithm", "refused by Linkerd"},
		"mesh = \"istio\"\n algorithm = \"DSA\"":           {"algorithm", "value must be one of"},
		"mesh = \"istio\"\n namespace = \"_\"":             {"namespace", "DNS label"},
		"mesh = \"istio\"\n subject = { country = \"d\" }": {"subject", "two capital letters"},
		"mesh = \"istio\"\n common_name = \" x\"":          {"common_name", "begins or ends with white space"},
		"mesh = \"istio\"\n renewal_trigger = \"\"":        {"renewal_trigger", "at least 1"},
	})
}
