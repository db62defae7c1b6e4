// Package aks reads Azure Kubernetes Service clusters from Azure Resource Manager
// and opens the way to their API servers: by the user credentials with Microsoft
// Entra tokens that are minted in this process, or by the admin credentials on
// request. What ARM and the API server answer is explained in terms of the roles,
// scopes and settings of AKS.
package aks
