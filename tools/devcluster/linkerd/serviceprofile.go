package linkerd

// This file stands in for Linkerd's ServiceProfile validator (linkerd2 pkg/profiles).

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The range of HTTP status codes.
const (
	lowestStatus  = 100
	highestStatus = 599
)

// A serviceProfile is a ServiceProfile as the validator reads it, which is not
// quite as the CRD has it: opaquePorts of a profile that the CRD lets pass are
// refused here, and so is a list as `not` of a request.
type serviceProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Routes       []*profileRoute `json:"routes"`
		RetryBudget  *retryBudget    `json:"retryBudget"`
		DstOverrides []struct {
			Authority string            `json:"authority"`
			Weight    resource.Quantity `json:"weight"`
		} `json:"dstOverrides"`
		OpaquePorts map[string]struct{} `json:"opaquePorts"`
	} `json:"spec"`
}

type profileRoute struct {
	Name            string         `json:"name"`
	Condition       *requestMatch  `json:"condition"`
	ResponseClasses []profileClass `json:"responseClasses"`
	IsRetryable     bool           `json:"isRetryable"`
	Timeout         string         `json:"timeout"`
}

type profileClass struct {
	Condition *responseMatch `json:"condition"`
	IsFailure bool           `json:"isFailure"`
}

type requestMatch struct {
	All       []*requestMatch `json:"all"`
	Any       []*requestMatch `json:"any"`
	Not       *requestMatch   `json:"not"`
	PathRegex string          `json:"pathRegex"`
	Method    string          `json:"method"`
}

type responseMatch struct {
	All    []*responseMatch `json:"all"`
	Any    []*responseMatch `json:"any"`
	Not    *responseMatch   `json:"not"`
	Status *struct {
		Min uint32 `json:"min"`
		Max uint32 `json:"max"`
	} `json:"status"`
}

type retryBudget struct {
	RetryRatio          float32 `json:"retryRatio"`
	MinRetriesPerSecond uint32  `json:"minRetriesPerSecond"`
	TTL                 string  `json:"ttl"`
}

// validateServiceProfile refuses a ServiceProfile with unknown fields, routes
// without a name, conditions that match nothing and unreadable times.
func validateServiceProfile(_ context.Context, request *admissionv1.AdmissionRequest) error {
	var profile serviceProfile
	decoder := json.NewDecoder(bytes.NewReader(request.Object.Raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&profile); err != nil {
		return fmt.Errorf("failed to validate ServiceProfile: %w", err)
	}
	if errs := validation.IsDNS1123Subdomain(profile.Name); len(errs) > 0 {
		return fmt.Errorf("ServiceProfile %q has invalid name: %s", profile.Name, errs[0])
	}
	for _, route := range profile.Spec.Routes {
		if err := route.validate(); err != nil {
			return fmt.Errorf("ServiceProfile %q has %w", profile.Name, err)
		}
	}
	if budget := profile.Spec.RetryBudget; budget != nil {
		if err := budget.validate(); err != nil {
			return fmt.Errorf("ServiceProfile %q RetryBudget: %w", profile.Name, err)
		}
	}
	return nil
}

func (r *profileRoute) validate() error {
	switch {
	case r == nil:
		return errors.New("a nil route")
	case r.Name == "":
		return errors.New("a route with no name")
	case r.Condition == nil:
		return errors.New("a route with no condition")
	}
	if r.Timeout != "" {
		if _, err := time.ParseDuration(r.Timeout); err != nil {
			return fmt.Errorf("a route with an invalid timeout: %w", err)
		}
	}
	if err := r.Condition.validate(); err != nil {
		return fmt.Errorf("a route with an invalid condition: %w", err)
	}
	for _, class := range r.ResponseClasses {
		if class.Condition == nil {
			return errors.New("a response class with no condition")
		}
		if err := class.Condition.validate(); err != nil {
			return fmt.Errorf("a response class with an invalid condition: %w", err)
		}
	}
	return nil
}

func (m *requestMatch) validate() error {
	if m == nil || (m.All == nil && m.Any == nil && m.Not == nil && m.PathRegex == "" && m.Method == "") {
		return errors.New("a request match must have a field set")
	}
	return validateAll(m.All, m.Any, m.Not)
}

func (m *responseMatch) validate() error {
	if m == nil || (m.All == nil && m.Any == nil && m.Not == nil && m.Status == nil) {
		return errors.New("a response match must have a field set")
	}
	if s := m.Status; s != nil {
		outside := func(code uint32) bool { return code != 0 && (code < lowestStatus || code > highestStatus) }
		switch {
		case outside(s.Min):
			return fmt.Errorf("range minimum must be between %d and %d, inclusive", lowestStatus, highestStatus)
		case outside(s.Max):
			return fmt.Errorf("range maximum must be between %d and %d, inclusive", lowestStatus, highestStatus)
		case s.Min != 0 && s.Max != 0 && s.Max < s.Min:
			return errors.New("range maximum cannot be smaller than minimum")
		}
	}
	return validateAll(m.All, m.Any, m.Not)
}

// validateAll validates the matches within a match.
func validateAll[M interface {
	comparable
	validate() error
}](all, anyOf []M, not M,
) error {
	for _, child := range append(append([]M(nil), all...), anyOf...) {
		if err := child.validate(); err != nil {
			return err
		}
	}
	var none M
	if not == none {
		return nil
	}
	return not.validate()
}

func (b *retryBudget) validate() error {
	if b.RetryRatio < 0 {
		return fmt.Errorf("retryRatio must be non-negative: %f", b.RetryRatio)
	}
	if b.TTL == "" {
		return errors.New("missing ttl field")
	}
	_, err := time.ParseDuration(b.TTL)
	return err
}
