package linkerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// Observation says how to look at a Linkerd.
type Observation struct {
	Namespace string
	// CNI is the namespace of the CNI plugin; empty if it is not expected.
	CNI string
	// Gateway is what is expected of the Gateway API.
	Gateway GatewayAPI
	Checks  WebhookChecks
	// Kinds are those of the objects that are compared; none means all. If they are
	// restricted, certificates are judged by their registrations, and the Gateway
	// API is not looked at.
	Kinds []kube.Kind
}

// Installed is a Linkerd as it is.
type Installed struct {
	// Version is the chart version of the control plane, AppVersion Linkerd's;
	// empty if it is missing.
	Version, AppVersion string
	// ValuesDigest is the digest of the values of the control plane, and of those
	// of the CNI plugin; empty if one is missing.
	ValuesDigest string
	// What the values say of the settings that they were composed from.
	HighAvailability, Heartbeat bool
	// CNI is the namespace of the CNI plugin; empty if there is none.
	CNI string
	// Webhooks are the control plane's and those of the viz extension, if it is
	// there. Hidden says, one line each, which the credentials may not see.
	Webhooks []Webhook
	Hidden   []string
	// Drift says what is not as it was installed.
	Drift []string
}

// Observe looks at the Linkerd in a namespace; helm.ErrReleaseNotFound if
// there is neither a control plane nor the release of its CRDs, as an install
// or a destroy that was cut off may leave it alone.
func (i Installer) Observe(ctx context.Context, o Observation) (Installed, error) {
	records, err := i.records(ctx, o.Namespace)
	if err != nil {
		return Installed{}, err
	}
	if records[controlPlaneChart] == nil {
		found, err := i.madeByCommand(ctx, o.Namespace)
		if err != nil {
			return Installed{}, err
		}
		if found != nil {
			installed := observeByCommand(o.Namespace, found)
			return installed, i.observeWebhooks(ctx, o.Namespace, o.Checks, &installed)
		}
		if records[crdsChart] == nil {
			return Installed{}, fmt.Errorf("release %s/%s: %w", o.Namespace, controlPlaneChart, helm.ErrReleaseNotFound)
		}
	}
	found, err := i.observeReleases(ctx, o, records)
	if err != nil {
		return Installed{}, err
	}
	o.Checks.RegisteredOnly = len(o.Kinds) > 0
	if len(o.Kinds) == 0 && o.Gateway.CRDs == InstallGatewayCRDs {
		_, l := versionOf(found.AppVersion, found.Version)
		drift, err := i.gatewayDrift(ctx, o.Gateway, l)
		if err != nil {
			return Installed{}, err
		}
		found.Drift = append(found.Drift, drift...)
	}
	if len(o.Kinds) == 0 && o.Gateway.CRDs != "" && o.Gateway.CRDs != IgnoreGatewayCRDs {
		unaware, err := i.unawareOfGateway(ctx, o.Namespace)
		if err != nil {
			return Installed{}, err
		}
		if unaware {
			found.Drift = append(found.Drift, destination(o.Namespace).String()+": it runs since before the CRDs of the Gateway API came, and does not know of routes")
		}
	}
	if err := i.observeWebhooks(ctx, o.Namespace, o.Checks, &found); err != nil {
		return Installed{}, err
	}
	return found, nil
}

// observeReleases compares the releases with each other and with the cluster.
func (i Installer) observeReleases(ctx context.Context, o Observation, records records) (Installed, error) {
	var found Installed
	values := map[string]any{}
	controlPlane := records[controlPlaneChart]
	if controlPlane != nil {
		values = controlPlane.Values
		found = Installed{Version: controlPlane.ChartVersion, AppVersion: controlPlane.AppVersion}
		found.HighAvailability = values["highAvailability"] == true
		found.Heartbeat = values["disableHeartBeat"] != true
	}
	names := []string{crdsChart, controlPlaneChart}
	if o.CNI != "" {
		plugin, err := i.cniRecord(ctx, o, records)
		if err != nil {
			return Installed{}, err
		}
		records[cniRelease], found.CNI = plugin, o.CNI
		names = append(names, cniRelease)
	}
	missing := false
	for _, name := range names {
		record, namespace := records[name], o.Namespace
		if name == cniRelease {
			namespace = o.CNI
		}
		if record == nil {
			missing = missing || name != crdsChart
			found.Drift = append(found.Drift, fmt.Sprintf("release %s/%s is missing", namespace, name))
			continue
		}
		if controlPlane != nil && record.ChartVersion != controlPlane.ChartVersion {
			found.Drift = append(found.Drift, fmt.Sprintf("release %s/%s is of version %s instead of %s", namespace, name, record.ChartVersion, controlPlane.ChartVersion))
		}
		drift, err := i.Drift(ctx, record, Yields(), o.Kinds...)
		if err != nil {
			return Installed{}, err
		}
		found.Drift = append(found.Drift, drift...)
	}
	if missing {
		return found, nil
	}
	var err error
	found.ValuesDigest, err = digest(values, records[cniRelease], o.CNI)
	return found, err
}

// digest tells values of a control plane with or without a plugin from others.
func digest(controlPlane map[string]any, plugin *helm.Release, namespace string) (string, error) {
	if namespace == "" {
		return install.Digest(controlPlane)
	}
	return install.Digest(map[string]any{controlPlaneChart: controlPlane, cniChart: plugin.Values})
}

// cniRecord is the release of the CNI plugin; nil if there is none.
func (i Installer) cniRecord(ctx context.Context, o Observation, records records) (*helm.Release, error) {
	if o.CNI == o.Namespace {
		return records[cniRelease], nil
	}
	record, err := i.release(ctx, o.CNI, cniRelease)
	if errors.Is(err, helm.ErrReleaseNotFound) {
		return nil, nil //nolint:nilnil // There is none.
	}
	return record, err
}

// Imported completes what is known of a Linkerd of which only the namespace is:
// whether it has a CNI plugin, and where.
func (i Installer) Imported(ctx context.Context, namespace string) (cni string, err error) {
	_, values, err := recordedValues(ctx, i.Cluster, namespace)
	if err != nil {
		return "", err
	}
	return i.findCNI(ctx, values)
}

// release reads a release that has not been given up.
func (i Installer) release(ctx context.Context, namespace, name string) (*helm.Release, error) {
	release, err := i.Releases.Get(ctx, namespace, name)
	if err == nil && release.Status == helm.StatusUninstalled {
		return nil, fmt.Errorf("release %s/%s: %w", namespace, name, helm.ErrReleaseNotFound)
	}
	return release, err
}
