package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
)

// roles are the built-in roles that the examples assign, by the IDs of their
// definitions: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles.
func roles() map[string]string {
	return map[string]string{
		"AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d",
		"Azure Kubernetes Service Cluster User Role":       "4abbcc35-e782-43d8-92c5-2d3f1bd2253f",
		"Azure Kubernetes Service RBAC Cluster Admin":      "b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b",
		"Container Registry Data Importer and Data Reader": "577a9874-89fd-4f24-9dbd-b5034d0ad23a",
	}
}

func newRoleAssignment() resource.Resource {
	computed := func() schema.StringAttribute {
		return schema.StringAttribute{
			Optional: true, Computed: true,
			PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown(), stringplanmodifier.RequiresReplaceIfConfigured()},
		}
	}
	return &record{
		kind: "role_assignment", apiVersion: "2022-04-01",
		attributes: map[string]schema.Attribute{
			"scope": requiredText(), "principal_id": requiredText(),
			"name": computed(), "role_definition_id": computed(), "role_definition_name": computed(), "principal_type": computed(),
		},
		put: putRoleAssignment,
	}
}

func putRoleAssignment(ctx context.Context, s *session, plan attributes) (map[string]any, error) {
	role := plan.text(ctx, "role_definition_name")
	definition, ok := roles()[role]
	if !ok {
		return nil, fmt.Errorf("role %q is not one of those that are known here: %s", role, strings.Join(slices.Sorted(maps.Keys(roles())), ", "))
	}
	name := uuid.NewString()
	id := plan.text(ctx, "scope") + "/providers/Microsoft.Authorization/roleAssignments/" + name
	definition = "/subscriptions/" + s.subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + definition
	body := map[string]any{"properties": map[string]any{"roleDefinitionId": definition, "principalId": plan.text(ctx, "principal_id")}}
	if err := s.ask(ctx, http.MethodPut, id, "2022-04-01", body, nil); err != nil {
		return nil, err
	}
	return map[string]any{"id": id, "name": name, "role_definition_id": definition, "role_definition_name": role, "principal_type": "ServicePrincipal"}, nil
}
