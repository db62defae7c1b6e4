// Package azure is how the provider logs in to Azure: settings by the names that
// users of azurerm know, one credential chosen from them, tokens that are kept
// until shortly before they expire, the clouds, and what its errors mean.
//
// Nothing is asked of anybody before the first token is wanted.
package azure
