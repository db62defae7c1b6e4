// Package retirement knows the days by which Microsoft ends the support of what
// clusters may still use, as announced at https://learn.microsoft.com/azure/aks.
package retirement

import (
	"fmt"
	"strings"
	"time"
)

// Day is the last day of support, which ends with it in UTC.
type Day struct {
	year  int
	month time.Month
	day   int
}

// Kubenet is the last day of the network plugin kubenet.
func Kubenet() Day { return Day{2028, time.March, 31} }

// AzureNPM is the last day of Azure Network Policy Manager on Linux.
func AzureNPM() Day { return Day{2028, time.September, 30} }

// AzureNPMOnWindows is the last day of Azure Network Policy Manager on Windows.
func AzureNPMOnWindows() Day { return Day{2026, time.September, 30} }

// Windows is the last day of nodes with a version of Windows, by the osSKU of their
// pool; none is announced for what is not known.
func Windows(osSKU string) (end Day, announced bool) {
	end, announced = map[string]Day{
		"windows2019":   {2026, time.March, 1},
		"windowsannual": {2026, time.May, 15},
		"windows2022":   {2028, time.June, 30},
	}[strings.ToLower(osSKU)]
	return end, announced
}

// IstioAddon is the last day of the month in which a revision of the Istio add-on
// was to end.
func IstioAddon(revision string) (end Day, announced bool) {
	end, announced = map[string]Day{
		"asm-1-28": {2026, time.August, 31},
		"asm-1-29": {2026, time.September, 30},
		"asm-1-30": {2026, time.December, 31},
	}[revision]
	return end, announced
}

// OpenServiceMesh is the last day of the add-on of that name.
func OpenServiceMesh() Day { return Day{2027, time.September, 30} }

// Over reports that the day has passed.
func (d Day) Over(now time.Time) bool {
	return !now.Before(time.Date(d.year, d.month, d.day+1, 0, 0, 0, 0, time.UTC))
}

// Words are "ends on 2028-03-31" or "ended on 2026-03-01".
func (d Day) Words(now time.Time) string {
	verb := "ends"
	if d.Over(now) {
		verb = "ended"
	}
	return fmt.Sprintf("%s on %04d-%02d-%02d", verb, d.year, d.month, d.day)
}
