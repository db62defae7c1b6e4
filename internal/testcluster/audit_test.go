package testcluster

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestReadAuditEvents(t *testing.T) {
	t.Parallel()

	const log = `{"kind":"Event","stage":"ResponseComplete","requestReceivedTimestamp":"2026-01-01T00:00:00.000001Z","verb":"list","requestURI":"/early"}
{"kind":"Event","stage":"RequestReceived","requestReceivedTimestamp":"2026-01-01T00:00:02.000000Z","verb":"get","requestURI":"/unanswered"}
{"kind":"Event","stage":"ResponseComplete","requestReceivedTimestamp":"2026-01-01T00:00:02.000000Z","verb":"patch","requestURI":"/apis/apps/v1/namespaces/dgraph/deployments/alpha?fieldManager=aksmesh","userAgent":"aksmesh/1","user":{"username":"admin"},"objectRef":{"apiGroup":"apps","resource":"deployments","subresource":"scale","namespace":"dgraph","name":"alpha"},"responseStatus":{"code":200}}
{"kind":"Event","stage":"ResponseCompl`

	got, err := readAuditEvents(strings.NewReader(log), time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}

	want := []AuditEvent{{
		Time:        time.Date(2026, 1, 1, 0, 0, 2, 0, time.UTC),
		Verb:        "patch",
		Path:        "/apis/apps/v1/namespaces/dgraph/deployments/alpha?fieldManager=aksmesh",
		UserAgent:   "aksmesh/1",
		User:        "admin",
		Code:        200,
		Group:       "apps",
		Resource:    "deployments",
		Subresource: "scale",
		Namespace:   "dgraph",
		Name:        "alpha",
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestAuditEventsNeedsAnAuditLog(t *testing.T) {
	t.Parallel()

	if _, err := new(Cluster).AuditEvents(time.Time{}); !errors.Is(err, errNoAuditLog) {
		t.Errorf("got %v, want %v", err, errNoAuditLog)
	}
}
