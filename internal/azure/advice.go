package azure

// Advice says what probably caused an error of logging in and what to do about
// it, or "" if nothing more can be said.
func Advice(err error) string { return "" }
