// Package netpoldiff holds internal/netpol's evaluation of NetworkPolicies
// against another one that was written independently: that of Cyclonus, which
// its authors made to test network plugins. It is a module of its own so that
// the provider does not depend on Cyclonus.
package netpoldiff
