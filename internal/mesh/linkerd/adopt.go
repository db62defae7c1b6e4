package linkerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// destination is the Deployment that every Linkerd has.
func destination(namespace string) kube.Ref {
	return kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: "linkerd-destination"}
}

// byHandError tells that Linkerd is there without releases.
type byHandError struct{ ref kube.Ref }

func (e *byHandError) Error() string {
	return fmt.Sprintf("%s was installed without Helm, as by `linkerd install`", e.ref)
}

func (e *byHandError) Is(target error) bool { return target == install.ErrForeign }

// A byCommand is a control plane that `linkerd install` has made: there are its
// objects, and no release.
type byCommand struct {
	version string // of Linkerd, as the control plane reports it
	values  map[string]any
}

// madeByCommand finds what `linkerd install` has left in a namespace; nil if it
// is not that.
func (i Installer) madeByCommand(ctx context.Context, namespace string) (*byCommand, error) {
	live, err := i.Cluster.Find(ctx, destination(namespace))
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil //nolint:nilnil // There is none.
	}
	if err != nil {
		return nil, err
	}
	if live.GetAnnotations()[releaseNameAnnotation] != "" {
		return nil, nil //nolint:nilnil // It is Helm's, or has been.
	}
	version, values, err := recordedValues(ctx, i.Cluster, namespace)
	if errors.Is(err, mesh.ErrNoControlPlane) {
		return nil, nil //nolint:nilnil // Whatever it is, it is not whole.
	}
	if err != nil {
		return nil, err
	}
	return &byCommand{version: version, values: values}, nil
}

// adopts tells of which releases the objects are to be taken over: those of
// `linkerd install`, also where an apply was cut off in taking them over, and
// CRDs that were applied for a control plane of Helm's. What is taken over stays
// the object that it is.
func (i Installer) adopts(ctx context.Context, namespace string, records records) (map[string]bool, error) {
	there := records[controlPlaneChart] != nil
	if !there {
		found, err := i.madeByCommand(ctx, namespace)
		if err != nil {
			return nil, err
		}
		there = found != nil
	}
	adopts := map[string]bool{}
	for _, name := range []string{crdsChart, controlPlaneChart} {
		adopts[name] = there && install.Adoptable(records[name])
	}
	return adopts, nil
}

// observeByCommand tells what is known of a control plane without releases.
func observeByCommand(namespace string, found *byCommand) Installed {
	installed := Installed{
		AppVersion: found.version, Version: found.version,
		HighAvailability: found.values["highAvailability"] == true, Heartbeat: found.values["disableHeartBeat"] != true,
		Drift: []string{fmt.Sprintf("%s was made by `linkerd install`: the next apply puts its objects under Helm releases, without making any of them anew", destination(namespace))},
	}
	if version, err := ParseVersion(found.version); err == nil {
		installed.Version = chartVersion(version)
	}
	return installed
}

// records are the newest revisions of the releases in a namespace, by name.
type records map[string]*helm.Release

// records reads those that have not been given up.
func (i Installer) records(ctx context.Context, namespace string) (records, error) {
	all, err := i.Releases.List(ctx, namespace)
	if err != nil {
		return nil, err
	}
	for name, record := range all {
		if record.Status == helm.StatusUninstalled {
			delete(all, name)
		}
	}
	return all, nil
}
