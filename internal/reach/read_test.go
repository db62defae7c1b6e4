package reach_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/reach"
)

// api is an API server with some kinds, each as <group>/<version>/<resource>/<kind>,
// and their objects, each as <namespace>/<name> or <name>, with a tier behind @. A
// kind whose objects are nil may not be listed, and one with the object "down" is of
// an API that does not answer.
func api(t *testing.T, kinds map[string][]string) *kube.Cluster {
	t.Helper()
	groups := map[string]metav1.APIGroup{}
	answers := map[string]any{"/api": metav1.APIVersions{}, "/apis": nil}
	for kind, objects := range kinds {
		part := strings.Split(kind, "/")
		version := metav1.GroupVersionForDiscovery{GroupVersion: part[0] + "/" + part[1], Version: part[1]}
		group := groups[part[0]]
		group.Name = part[0]
		if !slices.Contains(group.Versions, version) {
			group.Versions = append(group.Versions, version)
		}
		groups[part[0]] = group
		resources, _ := answers["/apis/"+version.GroupVersion].(metav1.APIResourceList)
		resources.GroupVersion = version.GroupVersion
		namespaced := len(objects) > 0 && strings.Contains(objects[0], "/")
		resources.APIResources = append(resources.APIResources,
			metav1.APIResource{Name: part[2] + "/status", Kind: part[3], Namespaced: namespaced}, metav1.APIResource{Name: part[2], Kind: part[3], Namespaced: namespaced})
		answers["/apis/"+version.GroupVersion] = resources
		items := []any{}
		for _, object := range objects {
			name, tier, _ := strings.Cut(object, "@")
			namespace, name, found := strings.Cut(name, "/")
			if !found {
				namespace, name = "", namespace
			}
			items = append(items, map[string]any{
				"apiVersion": version.GroupVersion, "kind": part[3],
				"metadata": map[string]any{"namespace": namespace, "name": name}, "spec": map[string]any{"tier": tier},
			})
		}
		answers["/apis/"+version.GroupVersion+"/"+part[2]] = map[string]any{
			"apiVersion": version.GroupVersion, "kind": part[3] + "List", "metadata": map[string]any{"resourceVersion": "1"}, "items": items,
		}
		if objects == nil {
			answers["/apis/"+version.GroupVersion+"/"+part[2]] = metav1.Status{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden,
			}
		}
	}
	for kind, objects := range kinds {
		if part := strings.Split(kind, "/"); slices.Contains(objects, "down") {
			answers["/apis/"+part[0]+"/"+part[1]] = metav1.Status{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonServiceUnavailable, Code: http.StatusServiceUnavailable,
			}
		}
	}
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}}
	for _, group := range groups {
		list.Groups = append(list.Groups, group)
	}
	answers["/apis"] = list
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		w.Header().Set("Content-Type", "application/json")
		if status, refused := answer.(metav1.Status); refused {
			w.WriteHeader(int(status.Code))
		} else if !known {
			w.WriteHeader(http.StatusNotFound)
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	cluster, err := kube.Connect(kube.Settings{Host: server.URL, Token: "t"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

func TestPoliciesOfOtherKindsAreNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kinds map[string][]string
		want  []string
	}{
		"none": {kinds: map[string][]string{"apps/v1/deployments/Deployment": {"db/alpha"}}},
		"by the administrator": {
			kinds: map[string][]string{
				"policy.networking.k8s.io/v1alpha1/adminnetworkpolicies/AdminNetworkPolicy":                 {"deny"},
				"policy.networking.k8s.io/v1alpha1/baselineadminnetworkpolicies/BaselineAdminNetworkPolicy": {"default"},
				"policy.networking.k8s.io/v1alpha2/clusternetworkpolicies/ClusterNetworkPolicy":             {"isolate"},
			},
			want: []string{"AdminNetworkPolicy deny", "BaselineAdminNetworkPolicy default", "ClusterNetworkPolicy isolate"},
		},
		"of a version to come": {
			kinds: map[string][]string{"policy.networking.k8s.io/v1/clusternetworkpolicies/ClusterNetworkPolicy": {"isolate"}},
			want:  []string{"ClusterNetworkPolicy isolate"},
		},
		"Calico, with its API": {
			kinds: map[string][]string{
				"projectcalico.org/v3/networkpolicies/NetworkPolicy":             {"db/default.alpha@default", "db/security.zero@security", "db/knp.default.mesh-only"},
				"projectcalico.org/v3/globalnetworkpolicies/GlobalNetworkPolicy": {"kanp.adminnetworkpolicy.deny"},
				"crd.projectcalico.org/v1/networkpolicies/NetworkPolicy":         {"db/default.alpha@default"},
			},
			want: []string{"Calico's NetworkPolicy db/default.alpha", "Calico's NetworkPolicy db/security.zero of tier security"},
		},
		"Calico, without": {
			kinds: map[string][]string{"crd.projectcalico.org/v1/globalnetworkpolicies/GlobalNetworkPolicy": {"default.deny"}},
			want:  []string{"Calico's GlobalNetworkPolicy default.deny"},
		},
		"Calico, whose API is down": {
			kinds: map[string][]string{
				"projectcalico.org/v3/networkpolicies/NetworkPolicy":                        {"down"},
				"crd.projectcalico.org/v1/globalnetworkpolicies/GlobalNetworkPolicy":        {"default.deny"},
				"policy.networking.k8s.io/v1alpha1/adminnetworkpolicies/AdminNetworkPolicy": {"deny"},
			},
			want: []string{
				"AdminNetworkPolicy deny", "Calico's GlobalNetworkPolicy default.deny",
				"projectcalico.org/v3: whether there are any policies cannot be told, as their API does not answer",
			},
		},
		"Cilium": {
			kinds: map[string][]string{
				"cilium.io/v2/ciliumnetworkpolicies/CiliumNetworkPolicy":                       {"db/l7"},
				"cilium.io/v2/ciliumclusterwidenetworkpolicies/CiliumClusterwideNetworkPolicy": nil,
			},
			want: []string{"CiliumClusterwideNetworkPolicy.cilium.io: whether there are any cannot be told, as they may not be listed", "CiliumNetworkPolicy db/l7"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := reach.NotEvaluated(t.Context(), api(t, test.kinds))
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, test.want)
			}
		})
	}
}
