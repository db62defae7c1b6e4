package provider

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// TestSubjectKept keeps a spelling that means what was found, so that nothing
// comes out of an apply that was not planned.
func TestSubjectKept(t *testing.T) {
	t.Parallel()
	spelt := func(organization types.String) types.Object {
		return objectFrom(t.Context(), subjectTypes, subjectModel{Organization: organization}, &diag.Diagnostics{})
	}
	null, empty := types.ObjectNull(subjectTypes), spelt(types.StringNull())
	for name, test := range map[string]struct {
		present, want types.Object
		found         pki.Subject
	}{
		"none":    {null, null, pki.Subject{CommonName: "x"}},
		"empty":   {empty, empty, pki.Subject{CommonName: "x"}},
		"same":    {spelt(types.StringValue("a")), spelt(types.StringValue("a")), pki.Subject{CommonName: "x", Organization: "a"}},
		"another": {spelt(types.StringValue("a")), spelt(types.StringValue("b")), pki.Subject{CommonName: "x", Organization: "b"}},
		"gone":    {spelt(types.StringValue("a")), null, pki.Subject{CommonName: "x"}},
		"found":   {types.ObjectUnknown(subjectTypes), spelt(types.StringValue("b")), pki.Subject{Organization: "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var diags diag.Diagnostics
			if got := subjectKept(t.Context(), test.present, test.found, &diags); !got.Equal(test.want) || diags.HasError() {
				t.Errorf("subject is %s, want %s; %v", got, test.want, diags)
			}
		})
	}
}
