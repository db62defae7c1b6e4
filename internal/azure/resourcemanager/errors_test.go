package resourcemanager

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
)

func answered(status int, body string) error {
	return refused("read it", &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/"}}})
}

func TestErrors(t *testing.T) {
	t.Parallel()
	const denied = `The client 'c' with object id 'o' does not have authorization to perform action 'Microsoft.X/y/read' over scope '/subscriptions/s' or the scope is invalid.`
	said := func(code, message string) string {
		return fmt.Sprintf(`{"error":{"code":%q,"message":%q}}`, code, message)
	}
	for name, test := range map[string]struct {
		err          error
		text, advice string // of advice the beginning
	}{
		"a role that is built in": {
			answered(http.StatusForbidden, said("AuthorizationFailed", denied)),
			"read it: Azure Resource Manager answers 403 AuthorizationFailed: " + denied,
			`Give o the role "Reader of y" (action Microsoft.X/y/read) on the scope /subscriptions/s.`,
		},
		"a role that is not": {
			answered(http.StatusForbidden, said("AuthorizationFailed", strings.Replace(denied, "y/read", "y/write", 1))),
			"403 AuthorizationFailed", "Give o a role with the action Microsoft.X/y/write on the scope /subscriptions/s.",
		},
		"in other words": {
			answered(http.StatusForbidden, said("AuthorizationFailed", "No.")), "403 AuthorizationFailed: No.", "Give the account a role that allows this.",
		},
		"a policy": {
			answered(http.StatusForbidden, said("RequestDisallowedByPolicy", "No.")), "403 RequestDisallowedByPolicy: No.", "The account is known but may not do this",
		},
		"a token": {
			answered(http.StatusUnauthorized, said("ExpiredAuthenticationToken", "Too old.")), "401 ExpiredAuthenticationToken: Too old.", "Azure Resource Manager does not accept the token. Check the clock",
		},
		"a flat answer":  {answered(http.StatusConflict, `{"code":"OperationNotAllowed","message":"Not now."}`), "409 OperationNotAllowed: Not now.", ""},
		"a page":         {answered(http.StatusBadGateway, "<html>s3cr3t"), "read it: Azure Resource Manager answers 502 Bad Gateway", "Azure Resource Manager has a problem of its own"},
		"no way there":   {&Error{Doing: "read it", err: &net.DNSError{Err: "no such host", Name: "management.azure.com", IsNotFound: true}}, "read it: lookup management.azure.com: no such host", "The name could not be resolved"},
		"no login":       {&Error{Doing: "read it", err: &azure.LoginError{Code: "AADSTS53003", Reason: "no"}}, "read it: log in to Azure", "A Conditional Access policy"},
		"something else": {errors.New("other"), "other", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := fmt.Errorf("do it: %w", test.err)
			if !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("error %q; want %q", err, test.text)
			}
			advice := Advice(err, func(action string) string {
				if action == "Microsoft.X/y/read" {
					return "Reader of y"
				}
				return ""
			})
			if !strings.HasPrefix(advice, test.advice) || test.advice == "" && advice != "" {
				t.Errorf("advice %q; want %q", advice, test.advice)
			}
		})
	}
}
