package kube

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

func TestVersionIsAskedForUntilItIsKnown(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	cluster := serve(t, http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if asked.Add(1) == 1 {
			refusal(http.StatusForbidden, "Forbidden", "forbidden", nil)(w, request)
			return
		}
		page(http.StatusOK, "application/json", `{"gitVersion": "v1.34.1", "major": "1", "minor": "34"}`)(w, request)
	}), time.Minute)
	if version, err := cluster.Version(t.Context()); err == nil {
		t.Errorf("refused, but got %s", version)
	}
	for range 2 {
		if version, err := cluster.Version(t.Context()); err != nil || version != "v1.34.1" {
			t.Errorf("got %s, %v", version, err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("it was asked for %d times", asked.Load())
	}
}
