package retirement_test

import (
	"testing"
	"time"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/retirement"
)

func TestDay(t *testing.T) {
	t.Parallel()
	west := time.FixedZone("UTC-8", -8*60*60)
	for now, want := range map[time.Time]string{
		time.Date(2026, 9, 29, 0, 0, 0, 0, time.UTC):      "ends on 2026-09-30",
		time.Date(2026, 9, 30, 23, 59, 59, 0, time.UTC):   "ends on 2026-09-30",
		time.Date(2026, 9, 30, 15, 59, 59, 0, west):       "ends on 2026-09-30",
		time.Date(2026, 9, 30, 16, 0, 0, 0, west):         "ended on 2026-09-30",
		time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC):      "ended on 2026-09-30",
		time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC):       "ended on 2026-09-30",
		time.Date(2026, 9, 30, 0, 0, 0, 0, time.UTC):      "ends on 2026-09-30",
		time.Date(2026, 9, 30, 23, 59, 59, 999, time.UTC): "ends on 2026-09-30",
	} {
		day := retirement.AzureNPMOnWindows()
		if got := day.Words(now); got != want || day.Over(now) != (want[:5] == "ended") {
			t.Errorf("at %s: %s, over %t", now, got, day.Over(now))
		}
	}
}

// TestAnnounced holds what an end is announced of, however Azure spells it.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for name, want := range map[string]string{"WindowsAnnual": "ended on 2026-05-15", "windows2022": "ends on 2028-06-30", "Windows2025": ""} {
		if end, announced := retirement.Windows(name); announced != (want != "") || announced && end.Words(now) != want {
			t.Errorf("%s: %s", name, end.Words(now))
		}
	}
	for name, want := range map[string]string{"asm-1-29": "ended on 2026-09-30", "asm-1-30": "ends on 2026-12-31", "asm-1-31": ""} {
		if end, announced := retirement.IstioAddon(name); announced != (want != "") || announced && end.Words(now) != want {
			t.Errorf("%s: %s", name, end.Words(now))
		}
	}
}
