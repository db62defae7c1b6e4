package kube

import "strings"

// Action is what an operation does to an object.
type Action string

// The actions, as they stand before an object in a line.
const (
	Create    Action = "+"
	Update    Action = "~"
	Recreate  Action = "-/+"
	Delete    Action = "-"
	Keep      Action = "."
	Restore   Action = "!" // to what was applied before; what differs now is in Drift
	Unchanged Action = "="
)

// Change is what an operation would do to one object.
type Change struct {
	Action Action
	Ref    Ref
	Lines  []string // fields that change, "spec.replicas: 1 -> 3"
	Note   string   // what else is to be known
	// Warning is what stands in the way of the change at this moment.
	Warning string
	// Uncertain reports that the change may be another one when it is applied: the
	// object has another name with each rendering, the cluster does not serve its
	// kind yet, or the API server did not say what would become of it.
	Uncertain bool
}

// String is the change in one line, without the warning:
//
//	~ Deployment dgraph/alpha: spec.replicas: 1 -> 3
//	-/+ StatefulSet dgraph/alpha: spec.serviceName: "a" -> "b" (pods and volume claims stay)
func (c Change) String() string {
	text := string(c.Action) + " " + c.Ref.String()
	if len(c.Lines) > 0 {
		text += ": " + strings.Join(c.Lines, "; ")
	}
	if c.Note != "" {
		text += " (" + c.Note + ")"
	}
	return text
}
