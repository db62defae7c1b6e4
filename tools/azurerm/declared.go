package main

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// What nobody asks Azure for is in the state alone.

// groupID is the ID of a resource group, or of what is in it.
func (s *session) groupID(group string, kind ...string) string {
	id := "/subscriptions/" + s.subscription + "/resourceGroups/" + group
	if len(kind) == 0 {
		return id
	}
	return id + "/providers/" + strings.Join(kind, "/")
}

func newResourceGroup() resource.Resource {
	return &record{
		kind:       "resource_group",
		attributes: map[string]schema.Attribute{"name": requiredText(), "location": requiredText(), "tags": tags()},
		put: func(ctx context.Context, s *session, plan attributes) (map[string]any, error) {
			return map[string]any{"id": s.groupID(plan.text(ctx, "name"))}, nil
		},
	}
}

func newVirtualNetwork() resource.Resource {
	return &record{
		kind: "virtual_network",
		attributes: map[string]schema.Attribute{
			"name": requiredText(), "location": requiredText(), "resource_group_name": requiredText(), "tags": tags(),
			"address_space": schema.SetAttribute{Optional: true, ElementType: types.StringType},
			"guid":          computedText(),
		},
		put: func(ctx context.Context, s *session, plan attributes) (map[string]any, error) {
			return map[string]any{
				"id":   s.groupID(plan.text(ctx, "resource_group_name"), "Microsoft.Network", "virtualNetworks", plan.text(ctx, "name")),
				"guid": uuid.NewString(),
			}, nil
		},
	}
}

func newSubnet() resource.Resource {
	return &record{
		kind: "subnet",
		attributes: map[string]schema.Attribute{
			"name": requiredText(), "resource_group_name": requiredText(), "virtual_network_name": requiredText(),
			"address_prefixes": texts(),
		},
		put: func(ctx context.Context, s *session, plan attributes) (map[string]any, error) {
			return map[string]any{"id": s.groupID(
				plan.text(ctx, "resource_group_name"), "Microsoft.Network", "virtualNetworks", plan.text(ctx, "virtual_network_name"), "subnets", plan.text(ctx, "name"),
			)}, nil
		},
	}
}
