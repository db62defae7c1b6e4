package istio

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
)

// Module is the Go module whose files Addons reads.
const Module = "istio.io/istio"

// addonsDir is where Istio keeps its addons, in the module and in every release.
const addonsDir = "samples/addons"

// oldAddons are stand-ins for what Istio no longer has.
//
//go:embed addons/*.yaml
var oldAddons embed.FS

// Addons are the addons of all Versions, by the path below which
// they are to be served: istio/<version>/samples/addons/<file>. They are those
// of the module, whose root is module. The extras prometheus_vm.yaml and
// prometheus_vm_tls.yaml, which the module has no more, are stand-ins and there
// for FirstVersion alone.
func Addons(module fs.FS) (map[string][]byte, error) {
	addons := map[string][]byte{}
	for _, dir := range []string{addonsDir, path.Join(addonsDir, "extras")} {
		names, err := fs.Glob(module, dir+"/*.yaml")
		if err != nil {
			return nil, fmt.Errorf("list addons: %w", err)
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("module %s has no %s", Module, dir)
		}
		for _, name := range names {
			data, err := fs.ReadFile(module, name)
			if err != nil {
				return nil, fmt.Errorf("read addon: %w", err)
			}
			for _, version := range Versions() {
				addons["istio/"+version+"/"+name] = data
			}
		}
	}
	old, err := fs.Glob(oldAddons, "addons/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list stand-ins for addons: %w", err)
	}
	for _, name := range old {
		data, err := oldAddons.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read stand-in for an addon: %w", err)
		}
		addons[path.Join("istio", FirstVersion, addonsDir, "extras", path.Base(name))] = data
	}
	return addons, nil
}
