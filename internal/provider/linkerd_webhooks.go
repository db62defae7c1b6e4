package provider

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

var webhookTypes = map[string]attr.Type{"name": types.StringType, "not_after": types.StringType, "renewed_by": types.StringType}

type webhookModel struct {
	Name      types.String `tfsdk:"name"`
	NotAfter  types.String `tfsdk:"not_after"`
	RenewedBy types.String `tfsdk:"renewed_by"`
}

// renewedByUs is the renewed_by of certificates that no other has in hand.
const renewedByUs = "aksmesh"

// webhooksAttribute lists the certificates by which the API server calls what a
// resource installs, as the description says.
func webhooksAttribute(of string) schema.ListNestedAttribute {
	return schema.ListNestedAttribute{
		Computed:            true,
		MarkdownDescription: of,
		NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
			"name":       computedString("Name of the Service that is called, such as `linkerd-proxy-injector` or `tap`."),
			"not_after":  computedString("When the API server ceases to accept the certificate, RFC 3339; empty if there is none that can be read."),
			"renewed_by": computedString("Who renews it: `" + renewedByUs + "`, or who has it in hand otherwise, such as `cert-manager`; such certificates are left alone."),
		}},
	}
}

// webhooksList is the value of webhooksAttribute.
func webhooksList(ctx context.Context, webhooks []linkerd.Webhook, diags *diag.Diagnostics) types.List {
	models := make([]webhookModel, len(webhooks))
	for i, webhook := range webhooks {
		models[i] = webhookModel{types.StringValue(webhook.Name), types.StringValue(""), types.StringValue(renewedByUs)}
		if !webhook.NotAfter.IsZero() {
			models[i].NotAfter = types.StringValue(webhook.NotAfter.UTC().Format(time.RFC3339))
		}
		if webhook.RenewedBy != "" {
			models[i].RenewedBy = types.StringValue(webhook.RenewedBy)
		}
	}
	list, d := types.ListValueFrom(ctx, types.ObjectType{AttrTypes: webhookTypes}, models)
	diags.Append(d...)
	return list
}

// firstEnd is when the first certificate ends; empty if none is known.
func firstEnd(webhooks []linkerd.Webhook) string {
	var first time.Time
	for _, webhook := range webhooks {
		if end := webhook.NotAfter; !end.IsZero() && (first.IsZero() || end.Before(first)) {
			first = end
		}
	}
	if first.IsZero() {
		return ""
	}
	return first.UTC().Format(time.RFC3339)
}

// warnOfWebhooks tells in the plan which certificates are due or have ended, and
// what that means for the cluster: it reports nothing by itself.
func (b *resourceBase) warnOfWebhooks(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.State.Raw.IsNull() {
		return
	}
	var known []webhookModel
	var early types.String
	resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("webhooks"), &known)...)
	resp.Diagnostics.Append(req.Plan.GetAttribute(ctx, path.Root("webhook_early_renewal"), &early)...)
	if resp.Diagnostics.HasError() {
		return
	}
	summary := "Webhook Certificates Are Due"
	var lines []string
	for _, webhook := range known {
		end, err := time.Parse(time.RFC3339, webhook.NotAfter.ValueString())
		if err != nil {
			continue // There is none that can be read, as the drift says.
		}
		name, by := webhook.Name.ValueString(), webhook.RenewedBy.ValueString()
		ours, now := by == renewedByUs, b.session.time()
		ended := !now.Before(end)
		if !ended && (!ours || !pki.RenewalDue(end, duration(early, linkerd.DefaultWebhookEarlyRenewal), now)) {
			continue
		}
		line := fmt.Sprintf("- %s: ends %s; without a valid one, ", name, end.Format(time.RFC3339))
		if ended {
			summary = "Webhook Certificates Have Expired"
			line = fmt.Sprintf("- %s: expired since %s, so ", name, end.Format(time.RFC3339))
		}
		line += linkerd.WebhookOutage(name) + "."
		if !ours {
			line += fmt.Sprintf(" It is for %s to renew it.", by)
		}
		lines = append(lines, line)
	}
	if len(lines) > 0 {
		resp.Diagnostics.AddWarning(summary, "What this provider looks after is renewed by the apply, without a moment in which the API server cannot call it:\n"+strings.Join(lines, "\n"))
	}
}
