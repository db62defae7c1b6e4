package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Subject is the name that a certificate gives its owner. Fields that are empty
// are left out.
type Subject struct {
	CommonName, Organization, OrganizationalUnit, Country, Province, Locality string
}

// SubjectOf returns the subject of a certificate: of an attribute that occurs
// several times the first value, and no attribute that Subject lacks.
func SubjectOf(cert *x509.Certificate) Subject {
	first := func(values []string) string {
		if len(values) == 0 {
			return ""
		}
		return values[0]
	}
	name := cert.Subject
	return Subject{
		CommonName:         name.CommonName,
		Organization:       first(name.Organization),
		OrganizationalUnit: first(name.OrganizationalUnit),
		Country:            first(name.Country),
		Province:           first(name.Province),
		Locality:           first(name.Locality),
	}
}

// Check holds the fields to the upper bounds of RFC 5280, appendix A.1, which
// openssl enforces: 64 characters, 128 of province and locality, and two capital
// letters of country. Empty fields pass.
func (s Subject) Check() error {
	for _, field := range []struct {
		name, value string
		limit       int
	}{
		{"common name", s.CommonName, 64},
		{"organization", s.Organization, 64},
		{"organizational unit", s.OrganizationalUnit, 64},
		{"province", s.Province, 128},
		{"locality", s.Locality, 128},
	} {
		switch {
		case utf8.RuneCountInString(field.value) > field.limit:
			return fmt.Errorf("%s %q has more than %d characters", field.name, field.value, field.limit)
		case strings.TrimSpace(field.value) != field.value:
			return fmt.Errorf("%s %q begins or ends with white space", field.name, field.value)
		case !utf8.ValidString(field.value) || strings.ContainsFunc(field.value, unicode.IsControl):
			return fmt.Errorf("%s %q has characters that are not text", field.name, field.value)
		}
	}
	capital := func(i int) bool { return s.Country[i] >= 'A' && s.Country[i] <= 'Z' }
	if s.Country != "" && (len(s.Country) != 2 || !capital(0) || !capital(1)) {
		return fmt.Errorf("country %q is not a code of ISO 3166 with two capital letters", s.Country)
	}
	return nil
}

func (s Subject) name() pkix.Name {
	all := func(value string) []string {
		if value == "" {
			return nil
		}
		return []string{value}
	}
	return pkix.Name{
		CommonName:         s.CommonName,
		Organization:       all(s.Organization),
		OrganizationalUnit: all(s.OrganizationalUnit),
		Country:            all(s.Country),
		Province:           all(s.Province),
		Locality:           all(s.Locality),
	}
}
