package azure

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// Advice says in a sentence or two what probably caused an error of logging in
// and what to do about it, or "" if nothing more can be said.
func Advice(err error) string {
	var failed *LoginError
	if !errors.As(err, &failed) || errors.Is(err, context.Canceled) {
		return ""
	}
	if advice := failed.adviceOnCode(); advice != "" {
		return advice
	}
	if advice := failed.adviceOnMethod(); advice != "" {
		return advice
	}
	return AdviceOnConnection(failed.Err)
}

func (e *LoginError) adviceOnCode() string {
	switch e.Code {
	case "AADSTS90002", "AADSTS900023", "AADSTS900021":
		return fmt.Sprintf("There is no tenant %q in this cloud. Set tenant_id (ARM_TENANT_ID) to the ID of the directory of the application, and environment (ARM_ENVIRONMENT) to its cloud.", e.Tenant)
	case "AADSTS700016", "AADSTS7000229":
		return fmt.Sprintf("The tenant %s does not know the application %s. Check client_id (the application ID, not an object ID) and tenant_id; an application of another tenant must first be given a service principal in this one.", e.Tenant, e.Client)
	case "AADSTS7000215":
		return "The client secret is not one of the application's. Set client_secret to the secret's value, which is shown only when it is made, and not to the secret's ID."
	case "AADSTS7000222":
		return "The client secret has expired. Make a new one for the application (az ad app credential reset) and set client_secret to it; OIDC does without secrets that expire."
	case "AADSTS7000112":
		return fmt.Sprintf("The application %s is disabled in the tenant %s. Its administrators can enable it (Enterprise applications, Properties, Enabled for users to sign in).", e.Client, e.Tenant)
	case "AADSTS700024":
		return "Entra ID does not accept the time in what this machine signed or handed on. Set its clock (the difference may be no more than five minutes); if the clock is right, the ID token has expired: one given in oidc_token cannot be renewed, so take oidc_token_file_path or the request URL of the CI system, which can."
	case "AADSTS700027":
		return fmt.Sprintf("Entra ID does not accept the signature: the certificate is not one of the application %s, or has expired there. Upload it to the application (az ad app credential reset --cert), or use the one that is there.", e.Client)
	case "AADSTS70021", "AADSTS70025", "AADSTS700211", "AADSTS700212", "AADSTS700213", "AADSTS7002131", "AADSTS7002138":
		return fmt.Sprintf("No federated credential of the application %s matches the ID token. Its issuer, subject and audience must be what Entra ID says above, letter by letter; the subject of GitHub Actions changes with branch, tag, environment and pull request.", e.Client)
	case "AADSTS500011", "AADSTS650057":
		return fmt.Sprintf("The tenant %s does not know what the token is for (%s). Check that the tenant is that of the cluster or subscription, and that environment names its cloud.", e.Tenant, e.Scope)
	case "AADSTS53003", "AADSTS53000", "AADSTS53001", "AADSTS530034", "AADSTS530035", "AADSTS50005", "AADSTS50158":
		return "A Conditional Access policy of the tenant does not let this login pass. Run from where the policy allows it (network, managed device), or have the identity excluded; the tenant's sign-in log names the policy."
	case "AADSTS50076", "AADSTS50079", "AADSTS50078":
		return "The tenant wants a second factor, which nobody can give during a run. Log in with it before (az login), or use a service principal or managed identity."
	case "AADSTS50058", "AADSTS50173", "AADSTS70043", "AADSTS700082", "AADSTS50132":
		return "The login of the Azure CLI has expired or was revoked. Run az login again."
	}
	return ""
}

func (e *LoginError) adviceOnMethod() string {
	var (
		asserted *assertionError
		metadata *metadataError
	)
	switch {
	case errors.As(e.Err, new(*tenantError)):
		return fmt.Sprintf("A managed identity, and the Azure CLI where one has logged in or in Cloud Shell, has tokens of its own tenant only, not of %s. Log in as a user or a service principal that this tenant knows, or take the tenant out of auxiliary_tenant_ids if that is where it comes from.", e.Tenant)
	case errors.As(e.Err, &asserted):
		switch asserted.Status {
		case 401, 403, 404:
			return "The CI system does not give this job an ID token. GitHub Actions wants the permission \"id-token: write\" for the job; Azure Pipelines wants SYSTEM_ACCESSTOKEN: $(System.AccessToken) in the step's environment and the ID of a service connection that the pipeline may use. Its request token ends with the job."
		case 0:
			return AdviceOnConnection(e.Err)
		}
		return fmt.Sprintf("%s answered so several times. That usually passes: run again, and see the status page of the CI system if it does not.", asserted.Host)
	case strings.Contains(e.Reason, "executable not found on path"):
		return "The Azure CLI (az) is not installed where the provider runs, or not on its PATH. Install it and run az login, or log in another way: client_id with client_secret or client_certificate, use_oidc, use_msi (ARM_CLIENT_ID, ARM_CLIENT_SECRET, …)."
	case strings.Contains(e.Reason, "--claims-challenge"):
		return "Azure wants a second factor for this. Run the command that the error names, then run again."
	case strings.Contains(e.Reason, "az login"):
		return "The Azure CLI is not logged in to this tenant. Run az login (with --tenant where there are several), or log in another way: client_id with client_secret or client_certificate, use_oidc, use_msi (ARM_CLIENT_ID, ARM_CLIENT_SECRET, …)."
	case errors.As(e.Err, &metadata) && (metadata.status == http.StatusBadRequest || metadata.status == http.StatusUnauthorized):
		return "This machine does not have that identity. Assign it to the machine, and set client_id to the identity's client ID where it is user-assigned or there are several."
	case e.Method == methodManagedIdentity:
		return "The service that gives tokens of managed identities did not answer as it does. It is there on Azure's machines only (for pods take use_aks_workload_identity), and is not to be asked through a proxy: set NO_PROXY=169.254.169.254 if there is one."
	}
	return ""
}

// AdviceOnConnection says what keeps an error's request from reaching a service
// of Azure, and what to do about it, or "" if it was not the connection.
func AdviceOnConnection(err error) string {
	var (
		name    *net.DNSError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		network net.Error
	)
	switch {
	case proxyUnreachable(err):
		return "The proxy that HTTPS_PROXY names cannot be reached. Correct or unset the variable where the provider runs."
	case RefusedByProxy(err):
		return "The proxy that HTTPS_PROXY names lets nobody through to there. Have the host allowed, give the proxy the credentials that it wants, or put the host into NO_PROXY."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "The certificate is outside its time by the clock of this machine. Set the clock; if it is right, what answers there is not Azure."
	case errors.As(err, &unknown), errors.As(err, &host):
		return "What answers there is not known to be Azure, probably a proxy that looks into TLS. Have its certificate authority trusted where the provider runs (system store, or SSL_CERT_FILE), or Azure's hosts exempted."
	case errors.As(err, &name):
		return "The name could not be resolved where the provider runs. Check DNS, and whether HTTPS_PROXY must be set there; for another cloud set environment (ARM_ENVIRONMENT)."
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &network):
		return "The host could not be reached from where the provider runs. Let HTTPS through the firewall to it, or set HTTPS_PROXY."
	}
	return ""
}
