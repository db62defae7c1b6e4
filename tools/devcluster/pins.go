//go:build pins

package main

import (
	_ "github.com/google/go-containerregistry/pkg/registry"
	_ "go.etcd.io/etcd/server/v3/embed"
	_ "helm.sh/helm/v3/pkg/action"
	_ "helm.sh/helm/v3/pkg/chart/loader"
	_ "helm.sh/helm/v3/pkg/engine"
	_ "helm.sh/helm/v3/pkg/registry"
	_ "helm.sh/helm/v3/pkg/repo"
	_ "istio.io/istio/manifests"
	_ "istio.io/istio/pkg/kube/inject"
	_ "k8s.io/apimachinery/pkg/util/wait"
	_ "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	_ "sigs.k8s.io/yaml"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "github.com/spf13/cobra"
)
