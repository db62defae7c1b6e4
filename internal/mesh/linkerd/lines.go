package linkerd

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
)

// A line is a numbered version of Linkerd, 2.<minor>, with the edge releases
// that led to it, and what is known of it.
type line struct {
	minor int
	// edge is the release that the numbered version was made from: year, month, count.
	edge [3]int
	// gatewayAPI are the oldest and the newest bundle of the Gateway API's CRDs
	// that the line is declared to work with.
	gatewayAPI [2]string
	// kubernetes is the newest minor version of Kubernetes that the line is declared
	// to work with; zero if nothing is said. The oldest is the charts' to say.
	kubernetes int
	// unreleased is of edge releases that no numbered version was made from yet.
	unreleased bool
}

// lines are all numbered versions that this provider knows, oldest first: the
// one place for what is otherwise in one than in another.
func lines() []line {
	return []line{
		{minor: 14, edge: [3]int{23, 8, 2}, gatewayAPI: [2]string{"0.7.0", "1.1.1"}},
		{minor: 15, edge: [3]int{24, 2, 4}, gatewayAPI: [2]string{"0.7.0", "1.1.1"}},
		{minor: 16, edge: [3]int{24, 8, 2}, gatewayAPI: [2]string{"0.7.0", "1.1.1"}},
		{minor: 17, edge: [3]int{24, 11, 8}, gatewayAPI: [2]string{"0.7.0", "1.1.1"}},
		{minor: 18, edge: [3]int{25, 4, 4}, gatewayAPI: [2]string{"1.1.1", "1.2.1"}, kubernetes: 32},
		{minor: 19, edge: [3]int{25, 10, 7}, gatewayAPI: [2]string{"1.1.1", "1.2.1"}, kubernetes: 35},
		{minor: 20, edge: [3]int{26, 6, 3}, gatewayAPI: [2]string{"1.2.1", "1.5.1"}, kubernetes: 35},
	}
}

// removedValues are values of the control plane's chart that later versions
// pass over in silence.
func removedValues() []install.RemovedValue {
	return []install.RemovedValue{
		{Key: "policyController.image", Since: "Linkerd 2.19", Instead: "the policy controller is part of controllerImage"},
		{Key: "proxyInit.image", Since: "Linkerd 2.20", Instead: "what it ran is part of proxy.image"},
	}
}

func (l line) String() string {
	if l.unreleased {
		return fmt.Sprintf("after 2.%d", l.minor-1)
	}
	return fmt.Sprintf("2.%d", l.minor)
}

// release is the edge release that the line's numbered version was made from.
func (l line) release() Version { return Version{Edge: true, numbers: l.edge} }

// lineOf is the line of a version. Edge releases after the last numbered version
// are on the way to the next, which is declared to work with whatever that does.
func lineOf(v Version) line {
	all := lines()
	last := all[len(all)-1]
	if !v.Edge {
		if at := slices.IndexFunc(all, func(l line) bool { return l.minor == v.numbers[1] }); at >= 0 {
			return all[at]
		}
		return line{minor: v.numbers[1], gatewayAPI: last.gatewayAPI}
	}
	for _, l := range all {
		if slices.CompareFunc(v.numbers[:], l.edge[:], cmp.Compare[int]) <= 0 {
			return l
		}
	}
	return line{minor: last.minor + 1, edge: v.numbers, gatewayAPI: last.gatewayAPI, unreleased: true}
}

// firstIn is the first version of the line with the given minor number, on both
// lines of numbers.
func firstIn(minor int) Since {
	first := Since{Numbered: [3]int{2, minor, 0}}
	for _, l := range lines() {
		if l.minor == minor {
			first.Edge = l.edge
		}
	}
	return first
}

// chartVersion is the version of the charts of an edge release, or the release
// where the charts were numbered otherwise.
func chartVersion(v Version) string {
	if !numberedAlike(v) {
		return v.String()
	}
	return fmt.Sprintf("%d.%d.%d", 2000+v.numbers[0], v.numbers[1], v.numbers[2])
}

// numberedAlike tells whether the charts of a version have its numbers.
func numberedAlike(v Version) bool { return v.Edge && v.Has(Since{Edge: [3]int{24, 3, 1}}) }

// checkUpgrade refuses to pass over a numbered version: what one has deprecated
// the next may have removed, and proxies work with the control planes of the
// versions beside their own.
func checkUpgrade(from, to Version) error {
	before, after := lineOf(from), lineOf(to)
	if d := after.minor - before.minor; d >= -1 && d <= 1 {
		return nil
	}
	step := 1
	if after.minor < before.minor {
		step = -1
	}
	for _, l := range lines() {
		if l.minor == before.minor+step {
			through := fmt.Sprintf("version %q", chartVersion(l.release()))
			if !numberedAlike(l.release()) {
				through = fmt.Sprintf("%s; its charts have numbers of their own, which `helm search repo --devel --versions` lists beside it", l.release())
			}
			return fmt.Errorf("an upgrade of Linkerd %s (%s) to %s (%s) at once is not supported, as only versions beside each other work together; go through %s (%s), restart the meshed workloads, and then go on",
				before, from, after, to, l, through)
		}
	}
	return fmt.Errorf("an upgrade of Linkerd %s (%s) to %s (%s) at once is not supported; go through 2.%d", before, from, after, to, before.minor+step)
}
