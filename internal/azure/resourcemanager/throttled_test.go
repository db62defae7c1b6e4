package resourcemanager

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// busy is an ARM that throttles so many requests.
type busy struct {
	throttles int
	after     http.Header
	asked     int
}

func (b *busy) Do(request *http.Request) (*http.Response, error) {
	b.asked++
	response := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: request}
	if b.asked <= b.throttles {
		response.StatusCode, response.Header = http.StatusTooManyRequests, b.after
	}
	return response, nil
}

func (b *busy) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestHowLongToBeLeftAlone(t *testing.T) {
	t.Parallel()
	seconds := func(value string) http.Header { return http.Header{"Retry-After": {value}} }
	for name, test := range map[string]struct {
		throttles int
		after     http.Header
		within    time.Duration // of the caller, 0 if it has time
		asked     int
		takes     time.Duration
		advice    string // "" if it comes to a good end
	}{
		"for minutes":                {throttles: 1, after: seconds("240"), asked: 2, takes: 4 * time.Minute},
		"in milliseconds":            {throttles: 1, after: http.Header{"Retry-After-Ms": {"90000"}}, asked: 2, takes: 90 * time.Second},
		"again and again":            {throttles: 9, after: seconds("120"), asked: 4, takes: 6 * time.Minute, advice: "after waiting as often and as long as it asked for (2m0s the last time)"},
		"longer than ARM counts":     {throttles: 9, after: seconds("301"), asked: 1, advice: "asks to be left alone for 5m1s, which is longer than this may take"},
		"longer than the caller has": {throttles: 9, after: seconds("61"), within: time.Minute, asked: 1, advice: "asks to be left alone for 1m1s, which"},
		"until a time":               {throttles: 9, after: seconds("Sat, 01 Jan 2000 00:10:00 GMT"), asked: 1, advice: "asks to be left alone for 10m0s, which"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				arm := &busy{throttles: test.throttles, after: test.after}
				client, err := newClient(arm, azcore.ClientOptions{Transport: arm, Cloud: cloud.AzurePublic}, nil)
				if err != nil {
					t.Fatal(err)
				}
				ctx := t.Context()
				if test.within > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.within)
					defer cancel()
				}
				began := time.Now()
				err = client.Do(ctx, Request{Doing: "read it", Path: "/subscriptions/s", APIVersion: "2026-05-01"}, &struct{}{})
				if took := time.Since(began); arm.asked != test.asked || took != test.takes {
					t.Errorf("asked %d times within %s; want %d and %s", arm.asked, took, test.asked, test.takes)
				}
				refusal, refused := errors.AsType[*Error](err)
				if refused != (test.advice != "") || err != nil && (!refused || refusal.Status != http.StatusTooManyRequests) {
					t.Fatalf("error %v", err)
				}
				if advice := Advice(err, func(string) string { return "" }); !strings.Contains(advice, test.advice) {
					t.Errorf("advice %q", advice)
				}
			})
		})
	}
}
