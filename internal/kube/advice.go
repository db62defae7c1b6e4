package kube

// Advice says in a sentence or two what probably caused an error of this
// package and what to do about it, or "" if nothing more can be said.
func Advice(err error) string { return "" }
