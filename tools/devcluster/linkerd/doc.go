// Package linkerd stands in for Linkerd in the embedded cluster: the charts
// that install it and the three controllers whose answers decide whether a
// mesh works. The charts render the objects of the real ones under the same
// names, from the same values; the controllers decide as the real ones do,
// but no proxy ever runs. Written from what is known of Linkerd's behaviour,
// so that everything can be tried where its charts and images cannot be had.
package linkerd
