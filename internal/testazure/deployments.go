package testazure

// What clients make, change and delete by Azure Resource Manager:
// https://learn.microsoft.com/rest/api/resources/resources/create-or-update.

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Behind says what answers behind the API servers of the clusters that clients
// make from now on, as ClusterOptions.API does.
func (a *Azure) Behind(api http.Handler) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.behind = api
}

// ClusterAt returns the cluster with a resource ID, nil if there is none.
func (a *Azure) ClusterAt(id string) *Cluster {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.clusters[strings.ToLower(id)]
}

// deployment is the body by which a resource is made or changed.
type deployment struct {
	SKU        map[string]any `json:"sku"`
	Properties map[string]any `json:"properties"`
}

// deploy makes, changes or deletes a resource by the parts of its path, as
// resourcePath has them.
func (a *Azure) deploy(w http.ResponseWriter, r *http.Request, who caller, parts []string) {
	cluster, registry := a.ClusterAt(parts[0]), a.registry(strings.ToLower(parts[0]))
	if r.Method == http.MethodDelete {
		switch {
		case cluster != nil && cluster.permits(w, who, clusterType+"/delete"):
			cluster.Delete()
			w.WriteHeader(http.StatusOK)
		case registry != nil && registry.permits(w, who, registryType+"/delete"):
			registry.delete()
			w.WriteHeader(http.StatusOK)
		case cluster == nil && registry == nil:
			w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	var asked deployment
	err := json.NewDecoder(r.Body).Decode(&asked)
	if err == nil {
		switch {
		case strings.EqualFold(parts[3], clusterType):
			cluster, err = a.putCluster(cluster, parts, asked)
		case strings.EqualFold(parts[3], registryType):
			registry, err = a.putRegistry(registry, parts, asked)
		default:
			refuse(w, http.StatusNotFound, "InvalidResourceType", "The resource type '"+parts[3]+"' could not be found.")
			return
		}
	}
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '"+err.Error()+"'.")
	case cluster != nil:
		cluster.describe(w)
	default:
		registry.describe(w)
	}
}

// putCluster makes a cluster, or changes the one that is there.
func (a *Azure) putCluster(there *Cluster, parts []string, asked deployment) (*Cluster, error) {
	if network, ok := asked.Properties["networkProfile"].(map[string]any); ok {
		for one, all := range map[string]string{"podCidr": "podCidrs", "serviceCidr": "serviceCidrs"} {
			if network[one] == nil {
				delete(network, one)
			} else {
				network[all] = []any{network[one]}
			}
		}
		if network["networkPluginMode"] == nil {
			// In a flat network pods have addresses of a subnet.
			network["networkPluginMode"], network["podCidr"], network["podCidrs"] = nil, nil, nil
		}
	}
	if pools, ok := asked.Properties["agentPoolProfiles"].([]any); ok {
		for _, pool := range pools {
			if pool, ok := pool.(map[string]any); ok {
				pool["osSKU"], pool["currentOrchestratorVersion"], pool["provisioningState"] = "Ubuntu", clusterVersion, "Succeeded"
				pool["powerState"] = map[string]any{"code": "Running"}
			}
		}
	}
	if there != nil {
		return there, there.Patch(asked.Properties)
	}
	a.mu.Lock()
	behind := a.behind
	a.mu.Unlock()
	return a.AddCluster(ClusterOptions{
		SubscriptionID: parts[1], ResourceGroup: parts[2], Name: parts[4], SKU: asked.SKU, Properties: asked.Properties, API: behind,
	})
}

// putRegistry makes a registry, or changes the one that is there.
func (a *Azure) putRegistry(there *Registry, parts []string, asked deployment) (*Registry, error) {
	if there != nil {
		return there, there.Patch(asked.Properties)
	}
	return a.AddRegistry(RegistryOptions{
		SubscriptionID: parts[1], ResourceGroup: parts[2], Name: parts[4], SKU: asked.SKU, Properties: asked.Properties,
	})
}

func (r *Registry) delete() {
	r.azure.mu.Lock()
	defer r.azure.mu.Unlock()
	delete(r.azure.registries, r.host)
}

var assignmentPath = regexp.MustCompile(`(?i)^(/subscriptions/.+)/providers/Microsoft\.Authorization/roleAssignments/([^/]+)$`)

// assign gives a role, takes it away or tells of it, if a request is about that.
func (a *Azure) assign(w http.ResponseWriter, r *http.Request) bool {
	parts := assignmentPath.FindStringSubmatch(r.URL.Path)
	if parts == nil {
		return false
	}
	scope, id := parts[1], parts[2]
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.IndexFunc(a.assignments, func(given assignment) bool {
		return given.id == id && strings.EqualFold(given.scope, scope)
	})
	switch {
	case r.Method == http.MethodPut && at < 0:
		var asked struct {
			Properties struct {
				RoleDefinitionID string `json:"roleDefinitionId"`
				PrincipalID      string `json:"principalId"`
			} `json:"properties"`
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Properties.PrincipalID == "" {
			refuse(w, http.StatusBadRequest, "InvalidCreateRoleAssignmentRequest", "The request to create role assignment '"+id+"' is not valid.")
			return true
		}
		role := asked.Properties.RoleDefinitionID
		given := assignment{id: id, principal: asked.Properties.PrincipalID, role: role[strings.LastIndex(role, "/")+1:], scope: scope}
		a.assignments = append(a.assignments, given)
		answer(w, http.StatusCreated, given.describe(scope))
	case r.Method == http.MethodPut:
		refuse(w, http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists.")
	case r.Method == http.MethodDelete && at < 0:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		a.assignments = slices.Delete(a.assignments, at, at+1)
		w.WriteHeader(http.StatusOK)
	case at < 0:
		refuse(w, http.StatusNotFound, "RoleAssignmentNotFound", "The role assignment '"+id+"' is not found.")
	default:
		answer(w, http.StatusOK, a.assignments[at].describe(scope))
	}
	return true
}

// describe is an assignment as Resource Manager has it, asked by a scope.
func (given assignment) describe(scope string) map[string]any {
	subscription, _, _ := strings.Cut(strings.TrimPrefix(scope, "/subscriptions/"), "/")
	return map[string]any{
		"id": given.scope + "/providers/Microsoft.Authorization/roleAssignments/" + given.id, "name": given.id,
		"type": "Microsoft.Authorization/roleAssignments",
		"properties": map[string]any{
			"roleDefinitionId": "/subscriptions/" + subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + given.role,
			"principalId":      given.principal, "principalType": "ServicePrincipal", "scope": given.scope, "condition": nil,
		},
	}
}
