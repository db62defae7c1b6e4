package install

import "github.com/aksmesh/terraform-provider-aksmesh/internal/helm"

// Adoptable tells whether a release, nil if there is none, may still take over
// objects that are there without one: until a revision has been deployed, some of
// them may not carry its name yet, as after a takeover that was cut off. Later
// ones are somebody else's.
func Adoptable(record *helm.Release) bool {
	return record == nil || Ours(record) && record.Deployed == nil
}
