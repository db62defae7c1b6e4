package holding

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestOrder holds in which order objects are applied, and the other way round
// removed: what lets in before what refuses, and those of a kind by name.
func TestOrder(t *testing.T) {
	t.Parallel()
	want := []string{
		"MeshTLSAuthentication/a", "NetworkAuthentication/a", "AuthorizationPolicy/a", "AuthorizationPolicy/b", "HTTPRoute/a-rest", "HTTPRoute/a-route", "PeerAuthentication/b", "Server/a", "NetworkPolicy/a",
	}
	var objects []*unstructured.Unstructured
	for _, text := range slices.Backward(want) {
		kind, name, _ := strings.Cut(text, "/")
		object := &unstructured.Unstructured{}
		object.SetKind(kind)
		object.SetName(name)
		objects = append(objects, object)
	}
	var got []string
	for _, object := range slices.SortedFunc(slices.Values(objects), byRank) {
		got = append(got, object.GetKind()+"/"+object.GetName())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
