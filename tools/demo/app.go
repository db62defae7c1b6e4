package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// deploy applies the manifests of a file and returns when the workloads among
// them are ready.
func deploy(ctx context.Context, cluster *kube.Cluster, manifests string) error {
	file, err := os.Open(filepath.Clean(manifests))
	if err != nil {
		return fmt.Errorf("open the application: %w", err)
	}
	defer file.Close() //nolint:errcheck // It was only read.

	var workloads []kube.Ref

	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)

	for {
		object := &unstructured.Unstructured{}

		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return cluster.AwaitReady(ctx, workloads...)
		}

		if err != nil {
			return fmt.Errorf("read %s: %w", manifests, err)
		}

		if _, err := cluster.Apply(ctx, object, kube.ApplyOptions{Manager: "demo"}); err != nil {
			return err
		}

		ref, err := cluster.RefOf(ctx, object)
		if err != nil {
			return err
		}

		switch ref.Kind {
		case kube.Deployment, kube.StatefulSet:
			workloads = append(workloads, ref)
		}
	}
}
