package provider

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
)

// goDuration accepts Go durations such as `720h` between the two bounds, both included.
func goDuration(least, most time.Duration) validator.String {
	return checked{
		description: fmt.Sprintf("a Go duration such as 720h, from %s to %s", plainDuration(least), plainDuration(most)),
		check: func(value string) error {
			d, err := time.ParseDuration(value)
			if err == nil && (d < least || d > most) {
				err = fmt.Errorf("%s is out of range", value)
			}
			return err
		},
	}
}

// labelKey accepts the keys of labels, labelValue their values.
func labelKey() validator.String {
	return checked{description: "a label's key such as app or app.kubernetes.io/name", check: func(value string) error {
		return complaints(validation.IsQualifiedName(value))
	}}
}

func labelValue() validator.String {
	return checked{description: "a label's value", check: func(value string) error {
		return complaints(validation.IsValidLabelValue(value))
	}}
}

// labelSelector accepts label selectors in the form of kubectl's.
func labelSelector() validator.String {
	return checked{description: "a label selector such as app=web,tier!=cache", check: func(value string) error {
		_, err := labels.Parse(value)
		return err
	}}
}

func complaints(all []string) error {
	if len(all) == 0 {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}

// quantity accepts Kubernetes quantities such as `100m` and `20Mi`.
func quantity() validator.String {
	return checked{
		description: "a Kubernetes quantity such as 100m or 20Mi",
		check: func(value string) error {
			_, err := resource.ParseQuantity(value)
			return err
		},
	}
}

// manifestURL accepts what manifests can be fetched from.
func manifestURL() validator.String {
	return checked{description: "the address of a manifest such as https://example.com/app.yaml", check: release.CheckAddress}
}

var sha256Pattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// hexSHA256 accepts SHA-256 sums as sha256sum prints them.
func hexSHA256() validator.String {
	return stringvalidator.RegexMatches(sha256Pattern, "must be a SHA-256 of 64 lower-case hexadecimal digits")
}

// exactVersion accepts one version, no range: `2026.8.3`, `1.30.2`.
func exactVersion() validator.String {
	return checked{
		description: "an exact version such as 2026.8.3",
		check: func(value string) error {
			_, err := semver.StrictNewVersion(value)
			return err
		},
	}
}

// linkerdVersion accepts versions of Linkerd in the forms that it has itself.
func linkerdVersion() validator.String {
	return checked{
		description: "a version of Linkerd such as 2026.8.3, edge-26.8.3 or stable-2.14.10",
		check: func(value string) error {
			_, err := linkerd.ParseVersion(value)
			return err
		},
	}
}

// trustBundle accepts PEM bundles whose certificates are all authorities that
// the given mesh rule allows as trust anchors.
func trustBundle(rule func(*x509.Certificate) error) validator.String {
	return checked{
		description: "a PEM bundle of trust anchors",
		check: func(value string) error {
			bundle, err := pki.ParseBundle([]byte(value))
			if err != nil {
				return err
			}
			for _, cert := range bundle.Certificates() {
				if err := rule(cert); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// checked is a string validator made of a description and a check.
type checked struct {
	description string
	check       func(value string) error
}

func (v checked) Description(context.Context) string { return v.description }

func (v checked) MarkdownDescription(context.Context) string { return v.description }

func (v checked) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := v.check(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.AddAttributeError(req.Path, "Invalid Value", fmt.Sprintf("%s is not %s: %s.", req.Path, v.description, err))
	}
}
