package oci

import "fmt"

// UnknownError says that the registry has no such image.
type UnknownError struct {
	Reference Reference
	Err       error
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("image %s does not exist: %v", e.Reference, e.Err)
}

func (e *UnknownError) Unwrap() error { return e.Err }

// UnauthorizedError says that the registry refused the credentials, or wants some.
type UnauthorizedError struct {
	Reference Reference
	Host      string // the one that needs a credential
	Err       error
	Login     error // why a keychain had no credential, or nil
}

func (e *UnauthorizedError) Error() string {
	message := fmt.Sprintf("image %s: %s refused access: %v", e.Reference, e.Host, e.Err)
	if e.Login != nil {
		message += fmt.Sprintf("; logging in had failed before: %v", e.Login)
	}
	return message
}

func (e *UnauthorizedError) Unwrap() []error { return []error{e.Err, e.Login} }

// ThrottledError says that the registry kept answering "too many requests".
type ThrottledError struct {
	Reference Reference
	Host      string
	Err       error
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("image %s: %s throttles: %v", e.Reference, e.Host, e.Err)
}

func (e *ThrottledError) Unwrap() error { return e.Err }

// UnreachableError says that the registry could not be asked, or did not answer
// sensibly.
type UnreachableError struct {
	Reference Reference
	Host      string
	Err       error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("image %s: %s cannot be reached: %v", e.Reference, e.Host, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// DigestError says that an image is not what it was taken for.
type DigestError struct {
	Reference Reference
	Want, Got string // "sha256:…"
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("image %s has digest %s instead of %s", e.Reference, e.Got, e.Want)
}

// Advice is what to do about an error of this package, "" if there is nothing to
// say.
func Advice(err error) string { return "" }
