package aks_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/aks"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// TestRegistries holds which roles on which scopes let nodes pull, on as many pages
// as Azure likes.
func TestRegistries(t *testing.T) {
	t.Parallel()
	made, err := double.AddCluster(testazure.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := aks.NewClient(newPerson(t).Account)
	if err != nil {
		t.Fatal(err)
	}
	id, err := aks.ParseID(made.ID())
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := client.Cluster(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	group := "/subscriptions/" + made.SubscriptionID + "/resourceGroups/images"
	registry := group + "/providers/Microsoft.ContainerRegistry/registries/mesh"
	const (
		owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
		other = "00000000-0000-4000-8000-00000000000e" // a role that is not built in
	)
	double.Assign(made.ObjectID, testazure.RepositoryReader, registry)
	double.Assign(made.ObjectID, testazure.AcrPull, group)
	double.Assign(made.ObjectID, testazure.AcrPull, group+"/providers/Microsoft.Storage/storageAccounts/a")
	double.Assign(made.ObjectID, owner, registry)
	double.Assign(made.ObjectID, other, registry)
	double.Assign("00000000-0000-4000-8000-00000000000f", testazure.AcrPull, registry)
	want := []aks.AttachedRegistry{{Scope: group, Role: "AcrPull"}, {Scope: registry, Role: "Container Registry Repository Reader", ByRepositories: true}, {Scope: registry, Role: "Owner"}}
	got, err := client.Registries(t.Context(), cluster)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}

	path := "/subscriptions/" + made.SubscriptionID + "/providers/Microsoft.Authorization/roleAssignments"
	double.Fail(testazure.Fault{Path: path, Times: 1, Body: map[string]any{
		"value": []any{
			map[string]any{"properties": map[string]any{"scope": "/subscriptions/" + made.SubscriptionID, "roleDefinitionId": "x/" + strings.ToUpper(testazure.AcrPull)}},
			map[string]any{"properties": map[string]any{"scope": "/", "roleDefinitionId": "x/" + testazure.AcrPull}},
			map[string]any{"properties": map[string]any{"scope": "/providers/Microsoft.Management/managementGroups/all", "roleDefinitionId": "x/" + testazure.AcrPull, "condition": "c"}},
		},
		"nextLink": "https://elsewhere.invalid" + path + "?api-version=2022-04-01&%24filter=assignedTo%28%27" + made.ObjectID + "%27%29&%24skiptoken=2",
	}})
	got, err = client.Registries(t.Context(), cluster)
	if want := append([]aks.AttachedRegistry{
		{Scope: "/", Role: "AcrPull"}, {Scope: "/providers/Microsoft.Management/managementGroups/all", Role: "AcrPull", Condition: "c"}, {Scope: "/subscriptions/" + made.SubscriptionID, Role: "AcrPull"},
	}, want...); err != nil || !slices.Equal(got, want) {
		t.Errorf("two pages: got %v, %v, want %v", got, err, want)
	}
	if !slices.ContainsFunc(double.Requests(), func(r testazure.Request) bool { return r.Path == path && r.Query.Get("$skiptoken") == "2" }) {
		t.Error("the second page was not asked for by its token")
	}

	double.Fail(testazure.Fault{Path: path, Status: http.StatusForbidden, Body: map[string]any{"error": map[string]any{
		"code": "AuthorizationFailed", "message": "The client does not have authorization to perform action 'Microsoft.Authorization/roleAssignments/read' over scope '/subscriptions/s'",
	}}})
	if _, err = client.Registries(t.Context(), cluster); err == nil || !strings.Contains(err.Error(), "list the roles of the kubelet identity of AKS cluster") || !strings.Contains(aks.Advice(err), "roleAssignments/read") {
		t.Errorf("a refusal: %v\n%s", err, aks.Advice(err))
	}
	cluster.Properties.IdentityProfile = nil
	if _, err = client.Registries(t.Context(), cluster); err == nil || !strings.Contains(err.Error(), "no kubelet identity") {
		t.Errorf("a cluster with a service principal: %v", err)
	}
}

// TestSubnet holds the blocks of addresses of a subnet in both forms in which Azure
// tells them.
func TestSubnet(t *testing.T) {
	t.Parallel()
	client, err := aks.NewClient(newPerson(t).Account)
	if err != nil {
		t.Fatal(err)
	}
	network := "/subscriptions/" + double.AddSubscription(nil) + "/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/hub/subnets/"
	for name, test := range map[string]struct {
		properties map[string]any
		want       []netip.Prefix
		says       string
	}{
		"one":      {map[string]any{"addressPrefix": "10.1.0.0/16"}, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, ""},
		"two":      {map[string]any{"addressPrefixes": []any{"10.1.0.0/16", "fd00:1::/64"}}, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/64")}, ""},
		"nonsense": {map[string]any{"addressPrefix": "AzureCloud"}, nil, `subnet hub/nonsense: "AzureCloud" is no block of addresses`},
	} {
		double.Fail(testazure.Fault{Path: network + name, Body: map[string]any{"properties": test.properties}})
		got, err := client.Subnet(t.Context(), network+name)
		if !slices.Equal(got, test.want) || (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	if _, err := client.Subnet(t.Context(), "/subscriptions/s"); err == nil || !strings.Contains(err.Error(), "not the resource ID of a subnet") {
		t.Errorf("another ID: %v", err)
	}
}
