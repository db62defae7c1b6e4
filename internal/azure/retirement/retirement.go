// Package retirement knows the days by which Microsoft ends the support of what
// clusters may still use, as announced at https://learn.microsoft.com/azure/aks.
package retirement

import (
	"fmt"
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

// Windows2019 is the last day of nodes of Windows Server 2019.
func Windows2019() Day { return Day{2026, time.March, 1} }

// Windows2022 is the last day of nodes of Windows Server 2022.
func Windows2022() Day { return Day{2028, time.June, 30} }

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
