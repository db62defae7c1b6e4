package resourcemanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

// Error is a request to ARM that failed.
type Error struct {
	Doing   string // what was asked for
	Status  int    // of ARM's answer; 0 if there was none that can be read
	Code    string // ARM's name of the error: "AuthorizationFailed"
	Message string // ARM's words
	// Unfinished tells that an operation was not waited for until its end. Azure goes
	// on with it, if it was accepted.
	Unfinished bool
	err        error

	wait   time.Duration // how long ARM asked to be left alone, 0 if it did not
	waited bool          // whether that was done, and did not help
}

func (e *Error) Error() string {
	if e.Status == 0 {
		return e.Doing + ": " + e.err.Error()
	}
	said := strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, e.Code))
	if e.Message != "" {
		said += ": " + e.Message
	}
	return e.Doing + ": Azure Resource Manager answers " + said
}

func (e *Error) Unwrap() error { return e.err }

// LacksRole tells of a refusal for want of a role.
func LacksRole(err error) bool {
	refusal, ok := errors.AsType[*Error](err)
	return ok && refusal.Status == http.StatusForbidden
}

var errUnreadable = errors.New("the answer of Azure Resource Manager is not what its API promises; a proxy may have answered for it")

func refused(doing string, response *http.Response) *Error {
	err := runtime.NewResponseError(response)
	refusal := &Error{Doing: doing, Status: response.StatusCode, err: err, wait: retryAfter(response.Header)}
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok {
		refusal.Code = answer.ErrorCode
	}
	if refusal.Code == "" {
		refusal.Code = http.StatusText(response.StatusCode)
	}
	var said struct {
		Message string `json:"message"` // of some answers of AKS
		Error   struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if body, err := runtime.Payload(response); err == nil && json.Unmarshal(body, &said) == nil {
		refusal.Message = said.Error.Message
		if refusal.Message == "" {
			refusal.Message = said.Message
		}
	}
	return refusal
}

var (
	action  = regexp.MustCompile(`perform action '([^']+)'`)
	scope   = regexp.MustCompile(`over scope '([^']+)'`)
	subject = regexp.MustCompile(`object id '([^']+)'`)
)

// Advice says what an error of this package means and what to do about it, or "".
// Role names the built-in role that allows an action
// ("Microsoft.ContainerService/managedClusters/read"), or is "".
func Advice(err error, role func(action string) string) string {
	of, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	if of.Unfinished {
		return "No time was left to wait for Azure, which goes on with what it has accepted: apply again to find it done, or give it more time (timeouts)."
	}
	if of.Status == 0 {
		if _, ok := errors.AsType[*azure.LoginError](of.err); ok {
			return azure.Advice(of.err)
		}
		return azure.AdviceOnConnection(of.err)
	}
	switch of.Code {
	case "AuthorizationFailed":
		return of.unauthorized(role)
	case "SubscriptionNotFound", "InvalidSubscriptionId":
		return "The account sees no such subscription: check subscription_id, and that tenant_id is the tenant that the subscription belongs to."
	case "ResourceGroupNotFound":
		return "The subscription has no such resource group, or the account may not see it: check subscription_id and the name."
	case "InvalidAuthenticationTokenTenant":
		return "The account logs in to another tenant than the one that the subscription belongs to: set tenant_id to the tenant that the message names last."
	case "ExpiredAuthenticationToken", "InvalidAuthenticationToken", "AuthenticationFailed":
		return "Azure Resource Manager does not accept the token. Check the clock of this machine, and that the environment (cloud) is the one that the subscription is in."
	}
	switch {
	case of.Status == http.StatusTooManyRequests:
		return "Azure Resource Manager is throttling the subscription or the account, and " + of.patience() + " Find out who else asks so much."
	case of.Status == http.StatusForbidden:
		return "The account is known but may not do this: a role is missing, or a policy or a deny assignment forbids it."
	case of.Status >= http.StatusInternalServerError:
		return "Azure Resource Manager has a problem of its own, which was still there after several tries. Nothing was changed: run again later; https://status.azure.com tells about incidents."
	}
	return ""
}

// patience says what came of how long ARM asked to be left alone.
func (e *Error) patience() string {
	switch wait := e.wait.Round(time.Second); {
	case e.wait == 0:
		return "still was after several tries. Run again later."
	case e.waited:
		return fmt.Sprintf("still was after waiting as often and as long as it asked for (%s the last time). Run again later.", max(wait, time.Second))
	default:
		return fmt.Sprintf("asks to be left alone for %s, which is longer than this may take. Run again after that.", wait)
	}
}

// retryAfter is how long an answer asks to be left alone, by the headers that the
// SDK goes by; 0 if it does not.
func retryAfter(header http.Header) time.Duration {
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if milliseconds, err := strconv.Atoi(header.Get(name)); err == nil {
			return time.Duration(milliseconds) * time.Millisecond
		}
	}
	asked := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(asked); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(asked); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

func (e *Error) unauthorized(role func(string) string) string {
	wanted, where, who := group(action, e.Message), group(scope, e.Message), group(subject, e.Message)
	if wanted == "" || where == "" {
		return "Give the account a role that allows this."
	}
	if who == "" {
		who = "the account"
	}
	a := "a role with the action " + wanted
	if name := role(wanted); name != "" {
		a = fmt.Sprintf("the role %q (action %s)", name, wanted)
	}
	return fmt.Sprintf("Give %s %s on the scope %s. A new assignment takes effect after some minutes.", who, a, where)
}

func group(pattern *regexp.Regexp, in string) string {
	if found := pattern.FindStringSubmatch(in); found != nil {
		return found[1]
	}
	return ""
}
