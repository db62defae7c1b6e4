package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func newKeyVaultSecret() resource.Resource {
	return &record{
		kind: "key_vault_secret",
		attributes: map[string]schema.Attribute{
			"name": requiredText(), "key_vault_id": requiredText(), "tags": tags(),
			"value_wo":         schema.StringAttribute{Optional: true, WriteOnly: true},
			"value_wo_version": schema.Int64Attribute{Optional: true},
			"content_type":     optionalText(),
			"version":          schema.StringAttribute{Computed: true},
			"versionless_id":   computedText(),
		},
		put: putKeyVaultSecret,
	}
}

func putKeyVaultSecret(ctx context.Context, s *session, plan attributes) (map[string]any, error) {
	var value types.String
	plan.config.GetAttribute(ctx, path.Root("value_wo"), &value)
	vault := plan.text(ctx, "key_vault_id")
	versionless := "https://" + vault[strings.LastIndex(vault, "/")+1:] + "." + s.account.Cloud().VaultSuffix + "/secrets/" + plan.text(ctx, "name")
	id, err := s.putSecret(ctx, versionless, value.ValueString())
	if err != nil {
		return nil, err
	}
	computed := map[string]any{"id": id, "versionless_id": versionless, "version": id[strings.LastIndex(id, "/")+1:]}
	if plan.id != "" {
		computed["id"] = plan.id // It remains that of the first version: nobody reads it.
	}
	return computed, nil
}

// putSecret writes a new version of a secret and returns its ID.
func (s *session) putSecret(ctx context.Context, versionless, value string) (string, error) {
	token, err := s.account.Token(ctx, "", "https://"+s.account.Cloud().VaultSuffix+"/.default")
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]string{"value": value})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, versionless+"?api-version=7.4", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+token.Token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("write %s: %s", versionless, response.Status)
	}
	var made struct {
		ID string `json:"id"`
	}
	return made.ID, json.NewDecoder(response.Body).Decode(&made)
}
