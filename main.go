// Command terraform-provider-aksmesh serves the aksmesh provider to Terraform
// and OpenTofu over plugin protocol 6.
package main

import (
	"context"
	"flag"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/provider"
)

// version is set by the linker on release.
var version = "dev"

func main() {
	debug := flag.Bool("debug", false, "serve for a debugger such as delve and print the reattach configuration")
	flag.Parse()

	err := providerserver.Serve(context.Background(), provider.New(version), providerserver.ServeOpts{
		Address: "registry.terraform.io/aksmesh/aksmesh",
		Debug:   *debug,
	})
	if err != nil {
		log.Fatal(err)
	}
}
