package main

import (
	"context"
	"net/http"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
)

const registryVersion = "2025-11-01"

func newContainerRegistry() resource.Resource {
	return &record{
		kind: "container_registry", apiVersion: registryVersion,
		attributes: map[string]schema.Attribute{
			"name": requiredText(), "resource_group_name": requiredText(), "location": requiredText(), "tags": tags(),
			"sku":           schema.StringAttribute{Required: true},
			"admin_enabled": schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false)},
			"login_server":  computedText(),
		},
		put: putContainerRegistry,
	}
}

func putContainerRegistry(ctx context.Context, s *session, plan attributes) (map[string]any, error) {
	id := s.groupID(plan.text(ctx, "resource_group_name"), "Microsoft.ContainerRegistry", "registries", plan.text(ctx, "name"))
	var made struct {
		Properties struct {
			LoginServer string `json:"loginServer"`
		} `json:"properties"`
	}
	err := s.ask(ctx, http.MethodPut, id, registryVersion, map[string]any{
		"location":   plan.text(ctx, "location"),
		"sku":        map[string]any{"name": plan.text(ctx, "sku")},
		"properties": map[string]any{},
	}, &made)
	return map[string]any{"id": id, "login_server": made.Properties.LoginServer}, err
}
