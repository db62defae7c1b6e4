// Package acr reads Azure container registries from Azure Resource Manager, has
// them import images by themselves, and logs in to them with Microsoft Entra
// tokens. What they answer is explained in terms of the roles, scopes and network
// rules of Azure Container Registry.
package acr
