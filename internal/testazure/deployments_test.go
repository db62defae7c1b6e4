package testazure

import (
	"net/http"
	"strings"
	"testing"
)

// TestDeployments makes, changes, reads and deletes by Resource Manager.
func TestDeployments(t *testing.T) {
	t.Parallel()
	a := New(t)
	token, _ := a.issue(caller{tenant: a.home.ID, client: a.home.main.ClientID, object: a.home.main.ObjectID}, managementAudiences()[0], "test")
	ask := func(method, path, body string, want int) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "https://"+managementHosts()[0]+path+"?api-version=2026-05-01", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := a.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want {
			t.Errorf("%s %s: %d, want %d", method, path, response.StatusCode, want)
		}
	}
	group := "/subscriptions/" + a.AddSubscription(nil) + "/resourceGroups/group"
	cluster, registry := group+"/providers/"+clusterType+"/cluster", group+"/providers/"+registryType+"/images"
	assignment := registry + "/providers/Microsoft.Authorization/roleAssignments/one"
	role := `{"properties": {"roleDefinitionId": "/providers/Microsoft.Authorization/roleDefinitions/` + AcrPull + `", "principalId": "nodes"}}`

	for path, body := range map[string]string{
		cluster:  `{"properties": {"networkProfile": {"networkPlugin": "azure", "networkPolicy": "calico", "networkDataplane": "azure"}}}`,
		registry: `{"sku": {"name": "Basic"}, "properties": {}}`,
	} {
		ask(http.MethodGet, path, "", http.StatusNotFound)
		ask(http.MethodPut, path, body, http.StatusOK)
		ask(http.MethodGet, path, "", http.StatusOK)
		ask(http.MethodPut, path, `{"properties": {"publicNetworkAccess": "Disabled"}}`, http.StatusOK)
	}
	made := a.ClusterAt(cluster)
	if made == nil {
		t.Fatal("there is no cluster")
	}
	if network, ok := made.property("networkProfile").(map[string]any); !ok || network["networkPolicy"] != "calico" || network["networkPluginMode"] != nil || network["podCidr"] != nil {
		t.Errorf("the network is %v", network)
	}
	if made.property("publicNetworkAccess") != "Disabled" {
		t.Error("the cluster was not changed")
	}

	ask(http.MethodPut, assignment, `{}`, http.StatusBadRequest)
	ask(http.MethodPut, assignment, role, http.StatusCreated)
	ask(http.MethodPut, assignment, role, http.StatusConflict)
	ask(http.MethodGet, assignment, "", http.StatusOK)
	for _, path := range []string{assignment, registry, cluster} {
		ask(http.MethodDelete, path, "", http.StatusOK)
		ask(http.MethodGet, path, "", http.StatusNotFound)
		ask(http.MethodDelete, path, "", http.StatusNoContent)
	}
}
