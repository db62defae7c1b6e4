package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
)

// What only the text of a message tells.
var (
	refusedByWebhook = regexp.MustCompile(`admission webhook "([^"]+)" denied the request`)
	brokenWebhook    = regexp.MustCompile(`failed calling webhook "([^"]+)"`)
	brokenQuota      = regexp.MustCompile(`exceeded quota: ([^,\s]+)`)
	forbiddenAction  = regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?`)
	missingNamespace = regexp.MustCompile(`namespaces "([^"]+)" not found`)
	podSecurity      = regexp.MustCompile(`violates PodSecurity "([^"]+)"`)
	refusedByPolicy  = regexp.MustCompile(`ValidatingAdmissionPolicy '([^']+)'`)
	imageProblem     = regexp.MustCompile(`container (\S+): (?:ImagePullBackOff|ErrImagePull|ErrImageNeverPull|InvalidImageName)`)
	configProblem    = regexp.MustCompile(`container (\S+): (?:CreateContainerConfigError|CreateContainerError)`)
	crashingProblem  = regexp.MustCompile(`container (\S+): CrashLoopBackOff`)
)

// Advice says in a sentence or two what probably caused an error of this
// package and what to do about it, or "" if nothing more can be said.
func Advice(err error) string {
	if err == nil {
		return ""
	}
	if advice := adviceOnAdmission(err.Error()); advice != "" {
		return advice
	}
	if advice := adviceOnTypes(err); advice != "" {
		return advice
	}
	if of, ok := errors.AsType[*AccessError](err); ok && of.advice != "" {
		return of.advice
	}
	if status := statusOf(err); status != nil {
		return adviceOnStatus(err, int(status.Code), status.Message)
	}
	return adviceOnConnection(err)
}

func adviceOnAdmission(message string) string {
	if found := refusedByWebhook.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("The admission webhook %q of the cluster refused the object. Change what it objects to, or ask who runs the webhook for an exemption.", found[1])
	}
	if found := brokenWebhook.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("The API server could not reach the admission webhook %q and may not go on without it. Check that the pods behind it run and that its certificate is valid; a webhook configuration that was left behind by something uninstalled must be deleted. If it is the injector of a mesh, the injector is down, and its failurePolicy Fail lets no pod be made until it is back.", found[1])
	}
	if found := missingNamespace.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("The namespace %q does not exist. Create it first, or have it created together with the object.", found[1])
	}
	if found := brokenQuota.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("The ResourceQuota %q of the namespace is used up. Raise it, or ask for less.", found[1])
	}
	if found := podSecurity.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("The namespace enforces the Pod Security level %q, which these pods break. A sidecar's init container needs the capabilities NET_ADMIN and NET_RAW: label the namespace with the level privileged, or run the mesh with its CNI plugin, which does without them.", found[1])
	}
	if found := refusedByPolicy.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("The ValidatingAdmissionPolicy %q of the cluster refused the object. Change what it objects to, or exempt the object in the policy's binding.", found[1])
	}
	return ""
}

func adviceOnTypes(err error) string {
	var (
		conflict *ConflictError
		settings *SettingsError
		restart  *RestartError
		budget   *BudgetError
		rollout  *RolloutError
		wait     *WaitError
	)
	switch {
	case errors.As(err, &conflict):
		return fmt.Sprintf("Another field manager (%s) set %s to another value. Decide who manages it: take it out of this configuration, or out of theirs.", strings.Join(conflict.Managers, ", "), strings.Join(conflict.Fields, ", "))
	case errors.As(err, &settings), errors.As(err, &restart):
		return "" // Their own words say what to do.
	case errors.As(err, &budget):
		return fmt.Sprintf("Let the update strategy of %s take fewer pods down at once (maxUnavailable 0 with a surge takes none), give it more replicas, loosen the budget, or restart it in spite of its budgets.", budget.Workload)
	case errors.As(err, &rollout) && adviceOnPods(err.Error()) != "", errors.As(err, &wait) && adviceOnPods(err.Error()) != "":
		return adviceOnPods(err.Error())
	case errors.As(err, &wait) && errors.Is(err, context.DeadlineExceeded):
		return "The cluster answers, but this did not come about in time. Remove what it names as the cause, or allow more time, and apply again: what was done so far is kept."
	case errors.Is(err, ErrExists):
		return "The object was made by somebody else. Import it to manage it here, or choose another name."
	case errors.Is(err, ErrChanged):
		return "Somebody else changed the object at the same time. Apply again."
	case errors.Is(err, ErrNotFound):
		return ""
	case meta.IsNoMatchError(err):
		return "The cluster does not serve this kind of object: the CRD that defines it is not installed, or in another version."
	}
	return ""
}

// adviceOnPods is about what keeps containers from running.
func adviceOnPods(message string) string {
	if found := imageProblem.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("The nodes cannot pull the image of container %q. Check its name and tag, that the nodes reach the registry, and that they may pull from it.", found[1])
	}
	if found := configProblem.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("Container %q refers to something that is not there, mostly a Secret or a ConfigMap of its namespace, or a key in one. Create it, or correct the reference.", found[1])
	}
	if found := crashingProblem.FindStringSubmatch(message); found != nil {
		return fmt.Sprintf("Container %[1]q ends again and again. Its last words tell why: kubectl logs --previous --container %[1]s.", found[1])
	}
	return ""
}

func adviceOnStatus(err error, code int, message string) string {
	switch {
	case code == http.StatusUnauthorized:
		return "The API server does not accept the credentials: they have expired, or belong to another cluster. Get new ones and run again; nothing was changed."
	case code == http.StatusForbidden:
		if found := forbiddenAction.FindStringSubmatch(message); found != nil {
			resource := found[3]
			if found[4] != "" {
				resource += "." + found[4]
			}
			where := "in the whole cluster"
			if found[5] != "" {
				where = "in namespace " + found[5]
			}
			return fmt.Sprintf("Give %q a role that allows the verb %q on %s %s.", found[1], found[2], resource, where)
		}
		return "The credentials are valid, but are not allowed to do this. Give them a role that is, or use others."
	case code == http.StatusNotFound:
		return "The 404 does not come from the API server about this object, so nothing is known about it. Check that the address is that of an API server, without a proxy that answers for it, and that the API group is installed."
	case code == http.StatusTooManyRequests:
		return "The API server is throttling requests. Run again later, or with a lower -parallelism."
	case apierrors.IsInvalid(err), code == http.StatusBadRequest:
		return "The API server does not accept the object. Check the fields that it names, and that the cluster's version knows them."
	case code >= http.StatusInternalServerError:
		return "The API server, or a proxy before it, has a problem of its own. Nothing is known about the object; run again when the cluster is well."
	}
	return ""
}

func adviceOnConnection(err error) string {
	var (
		name      *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		timeout   net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return ""
	case errors.As(err, &authority):
		return "The API server's certificate is not signed by the CA that was given. Check that the CA certificate belongs to this cluster."
	case errors.As(err, &hostname):
		return "The API server's certificate is for another name. Check the address, or set tls_server_name."
	case errors.As(err, &invalid):
		return "The API server's certificate is not valid now. Check the clock of this machine and the certificate of the cluster."
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "The address does not speak TLS. Check the port and the scheme of the API server's address."
	case errors.As(err, &name):
		return fmt.Sprintf("The name %s cannot be resolved. A private cluster can be reached only from its network.", name.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "Nothing listens at the API server's address. Check the address, and that the cluster is running."
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "The connection was cut off. A proxy, a firewall or the API server itself ended it; run again."
	case strings.Contains(err.Error(), "getting credentials:"):
		return "The credential plugin failed. Run it by hand to see what it needs: it cannot ask for input here."
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "No answer came in time. Check the network between here and the API server (firewall, private cluster, proxy)."
	}
	return ""
}
