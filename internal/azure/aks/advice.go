package aks

// Advice says what an error of ARM means and what to do, or "" if nothing more
// can be said.
func Advice(err error) string { return "" }
