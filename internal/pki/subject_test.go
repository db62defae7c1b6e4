package pki_test

import (
	"strings"
	"testing"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

func TestSubject(t *testing.T) {
	t.Parallel()
	full := pki.Subject{
		CommonName: "root", Organization: "Example GmbH", OrganizationalUnit: "Mesh",
		Country: "DE", Province: strings.Repeat("ü", 128), Locality: "München",
	}
	for _, want := range []pki.Subject{full, {CommonName: strings.Repeat("x", 64)}, {CommonName: "root", Country: "AQ"}} {
		if got := pki.SubjectOf(newAnchor(t, pki.AuthorityOptions{Subject: want}).Certificate()); got != want {
			t.Errorf("subject %+v, want %+v", got, want)
		}
	}
	// What is not said is not written, but the common name.
	anchor := newAnchor(t, pki.AuthorityOptions{Subject: pki.Subject{Organization: "Example"}})
	if got, want := anchor.Certificate().Subject.String(), "CN="+pki.DefaultAnchorCommonName+",O=Example"; got != want {
		t.Errorf("subject %s, want %s", got, want)
	}
	_, err := pki.NewIssuer(anchor, pki.AuthorityOptions{Now: noon, Subject: pki.SubjectOf(anchor.Certificate())})
	if err == nil || !strings.Contains(err.Error(), "same subject") {
		t.Errorf("an issuer with the name of its anchor: %v", err)
	}
}

func TestSubjectRefused(t *testing.T) {
	t.Parallel()
	for word, subject := range map[string]pki.Subject{
		"common name":         {CommonName: strings.Repeat("x", 65)},
		"organization ":       {Organization: strings.Repeat("x", 65)},
		"organizational unit": {OrganizationalUnit: strings.Repeat("x", 65)},
		"province":            {Province: strings.Repeat("x", 129)},
		"locality":            {Locality: strings.Repeat("x", 129)},
		`country "Germany"`:   {Country: "Germany"},
		`country "D"`:         {Country: "D"},
		`country "de"`:        {Country: "de"},
		`country "D1"`:        {Country: "D1"},
		"white space":         {CommonName: "root "},
		"not text":            {Organization: "a\x00b"},
		`"\xff"`:              {Locality: "\xff"},
	} {
		err := subject.Check()
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%+v: %v, want an error with %q", subject, err, word)
		}
		if _, err := pki.NewAnchor(pki.AuthorityOptions{Now: noon, Subject: subject}); err == nil {
			t.Errorf("an anchor was made with %+v", subject)
		}
		if _, _, err := pki.NewRequest(pki.AuthorityOptions{Subject: subject}); err == nil {
			t.Errorf("a request was made with %+v", subject)
		}
	}
}
