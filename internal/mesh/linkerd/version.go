package linkerd

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// Version is a version of Linkerd: an edge release, numbered by date, or a
// numbered release of the project (until 2.14) or of a vendor (after it). The
// two lines cannot be compared with each other; Since names both ends.
type Version struct {
	// Edge tells the edge line (year, month, count) from the numbered one
	// (major, minor, patch).
	Edge    bool
	numbers [3]int
}

var versionPattern = regexp.MustCompile(`^(?:(edge|stable|enterprise)-)?(\d{1,4})\.(\d{1,4})\.(\d{1,4})$`)

// ParseVersion reads Linkerd's version as the control plane reports it
// ("edge-26.8.3", "stable-2.14.10", "enterprise-2.18.0") or as charts since
// edge-24.3.1 are numbered ("2026.8.3", which is edge-26.8.3). Older charts have
// numbers of their own ("1.16.11"), which do not tell the version.
func ParseVersion(text string) (Version, error) {
	match := versionPattern.FindStringSubmatch(text)
	if match == nil {
		return Version{}, versionError(text)
	}
	var v Version
	for i, digits := range match[2:] {
		number, err := strconv.Atoi(digits)
		if err != nil {
			return Version{}, versionError(text)
		}
		v.numbers[i] = number
	}
	switch line, first := match[1], v.numbers[0]; {
	case line == "edge" && first < 100:
		v.Edge = true
	case line == "" && first >= 2000 && first < 2100:
		v.Edge = true
		v.numbers[0] -= 2000
	case line != "edge" && first == 2:
	default:
		return Version{}, versionError(text)
	}
	return v, nil
}

// String gives the version as the control plane of the edge line reports it, or
// the bare number.
func (v Version) String() string {
	number := fmt.Sprintf("%d.%d.%d", v.numbers[0], v.numbers[1], v.numbers[2])
	if v.Edge {
		return "edge-" + number
	}
	return number
}

// Since names the first version with a feature on each line.
type Since struct{ Edge, Numbered [3]int }

// Has tells whether v is at least the version of its line.
func (v Version) Has(feature Since) bool {
	first := feature.Numbered
	if v.Edge {
		first = feature.Edge
	}
	return slices.CompareFunc(v.numbers[:], first[:], cmp.Compare[int]) >= 0
}

func versionError(text string) error {
	return fmt.Errorf("%q is not a version of Linkerd such as edge-26.8.3, stable-2.14.10 or, for charts, 2026.8.3", text)
}
