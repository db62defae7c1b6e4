package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/check"
)

func TestPreflight(t *testing.T) {
	t.Parallel()
	wrong := errors.New("clusterNetworks lack 20.0.0.0/8; add it")
	for name, test := range map[string]struct {
		warns    bool
		err      error
		severity diag.Severity
	}{
		"a success":         {false, nil, diag.SeverityInvalid},
		"skipped":           {false, check.Skipf("no nodes"), diag.SeverityInvalid},
		"an error":          {false, wrong, diag.SeverityError},
		"a warning":         {true, wrong, diag.SeverityWarning},
		"no answer for now": {false, fmt.Errorf("clusterNetworks lack 20.0.0.0/8; add it: %w", apierrors.NewServiceUnavailable("restarting")), diag.SeverityWarning},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var diags diag.Diagnostics
			preflight(t.Context(), []check.Check{{
				ID: "networks", Description: "networks are known", HintURL: "https://example.invalid/#networks", Warns: test.warns,
				Run: func(context.Context) error { return test.err },
			}}, &diags)
			if test.severity == diag.SeverityInvalid {
				if len(diags) > 0 {
					t.Errorf("diagnostics %v, want none", diags)
				}
				return
			}
			if len(diags) != 1 || diags[0].Severity() != test.severity {
				t.Fatalf("diagnostics %v, want one of severity %v", diags, test.severity)
			}
			for _, want := range []string{"networks", "networks are known", "20.0.0.0/8; add it", "https://example.invalid/#networks"} {
				if !strings.Contains(diags[0].Detail(), want) {
					t.Errorf("%q lacks %q", diags[0].Detail(), want)
				}
			}
		})
	}
}
