//go:build pins

package main

import (
	_ "github.com/google/go-containerregistry/pkg/registry"
	_ "golang.org/x/sync/errgroup"
	_ "helm.sh/helm/v3/pkg/action"
	_ "helm.sh/helm/v3/pkg/chart/loader"
	_ "helm.sh/helm/v3/pkg/engine"
	_ "helm.sh/helm/v3/pkg/registry"
	_ "helm.sh/helm/v3/pkg/repo"
	_ "istio.io/istio/manifests"
	_ "istio.io/istio/pkg/kube/inject"
	_ "sigs.k8s.io/yaml"
)
