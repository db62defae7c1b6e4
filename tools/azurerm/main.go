// Command azurerm stands in for HashiCorp's azurerm provider where that cannot be
// had: the examples of examples/aks are validated, planned and applied with it.
//
// It has the resources and data sources that the examples use, of those the
// attributes that they use, and names, types, nesting, defaults and computed values
// as azurerm 4.57 to 5.2 has them; the examples are for both majors. What a cluster,
// a registry, a role assignment and a secret are told goes to Azure as azurerm sends
// it; what nobody reads again, groups and networks, is in the state alone.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
)

func main() {
	err := providerserver.Serve(context.Background(), func() provider.Provider { return &azurerm{} }, providerserver.ServeOpts{
		Address: "registry.terraform.io/hashicorp/azurerm",
	})
	if err != nil {
		log.Fatal(err)
	}
}
