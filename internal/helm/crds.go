package helm

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// CRDVersionError says that a CustomResourceDefinition cannot become what a chart wants it to be, because objects in the
// cluster could then be read no more.
type CRDVersionError struct {
	Name     string
	Stored   []string // versions in which objects are stored in the cluster
	Versions []string // versions that the chart defines
	// Conversion is the strategy by which the cluster converts between the stored versions and which the chart drops, ""
	// if it is a version that is dropped.
	Conversion string
}

func (e *CRDVersionError) Error() string {
	if e.Conversion != "" {
		return fmt.Sprintf("%s %s: objects are stored in the versions %s, and the chart drops the conversion by %s between them; "+
			"write all objects anew in one version and take the others out of status.storedVersions first",
			crdKind, e.Name, strings.Join(e.Stored, ", "), e.Conversion)
	}
	return fmt.Sprintf("%s %s: objects are stored in the versions %s, and the chart defines only %s; write all objects anew in a "+
		"version that stays and take the others out of status.storedVersions first, or go by a version of the chart that has both",
		crdKind, e.Name, strings.Join(e.Stored, ", "), strings.Join(e.Versions, ", "))
}

// CheckCRD compares a CustomResourceDefinition in the cluster with what it is to become. The error is a CRDVersionError
// if objects that are stored could be read no more.
func CheckCRD(live, wanted *unstructured.Unstructured) error {
	stored, _, err := unstructured.NestedStringSlice(live.Object, "status", "storedVersions")
	if err != nil {
		return fmt.Errorf("%s %s in the cluster: %w", crdKind, live.GetName(), err)
	}
	definitions, _, err := unstructured.NestedSlice(wanted.Object, "spec", "versions")
	if err != nil {
		return fmt.Errorf("%s %s of the chart: %w", crdKind, wanted.GetName(), err)
	}
	found := &CRDVersionError{Name: wanted.GetName(), Stored: stored}
	for _, definition := range definitions {
		if fields, ok := definition.(map[string]any); ok {
			if version, ok := fields["name"].(string); ok {
				found.Versions = append(found.Versions, version)
			}
		}
	}
	for _, version := range stored {
		if !slices.Contains(found.Versions, version) {
			return found
		}
	}
	if now, next := conversionOf(live), conversionOf(wanted); len(stored) > 1 && now != noConversion && next == noConversion {
		found.Conversion = now
		return found
	}
	return nil
}

// noConversion is the strategy of a CustomResourceDefinition that has none.
const noConversion = "None"

func conversionOf(crd *unstructured.Unstructured) string {
	strategy, set, err := unstructured.NestedString(crd.Object, "spec", "conversion", "strategy")
	if err != nil || !set {
		return noConversion
	}
	return strategy
}
