module github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster

go 1.26
