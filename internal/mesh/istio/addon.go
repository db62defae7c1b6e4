package istio

import (
	"cmp"
	"slices"
	"strings"
)

// addonSource is where the samples of a released version are, which never
// change: its tag in Istio's repository.
const addonSource = "https://raw.githubusercontent.com/istio/istio/"

// An Addon is one of the sample installations of telemetry tools that come with
// Istio, by the name of its manifest.
type Addon string

// addonDirectories are where below a source the manifest of each addon is.
func addonDirectories() map[Addon]string {
	const own, extra = "samples/addons/", "samples/addons/extras/"
	return map[Addon]string{
		"prometheus": own, "grafana": own, "jaeger": own, "kiali": own, "loki": own,
		// Of older versions only.
		"prometheus_vm": extra, "prometheus_vm_tls": extra,
	}
}

// Addons returns the names of all addons that there are or were.
func Addons() []string {
	var names []string
	for a := range addonDirectories() {
		names = append(names, string(a))
	}
	slices.Sort(names)
	return names
}

// File returns where below a source the manifest of an addon is.
func (a Addon) File() string { return addonDirectories()[a] + string(a) + ".yaml" }

// AddonLocation returns the address or the path of the manifest of an addon. The
// source is the URL or the directory of a copy of Istio's source or release,
// empty for the tag of the version in Istio's repository.
func AddonLocation(a Addon, version, source string) string {
	return strings.TrimSuffix(cmp.Or(source, addonSource+version), "/") + "/" + a.File()
}

// AddonSource returns the source that a location was made of, empty if that is
// the tag of the version.
func AddonSource(a Addon, version, location string) string {
	if location == AddonLocation(a, version, "") {
		return ""
	}
	return strings.TrimSuffix(location, "/"+a.File())
}
