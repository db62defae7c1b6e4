package linkerd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// An inheritance says where the value of an annotation comes from that a pod has
// after its injection.
type inheritance struct {
	key string
	// podsOnly annotations are not copied from the namespace.
	podsOnly bool
	// since is the first version that knows the annotation.
	since Since
}

// inheritances are those of the annotations that decide how a proxy is made.
// Labels for traces are left out: other webhooks add the same annotations.
func inheritances() []inheritance {
	all := append([]inheritance{{key: injectAnnotation}}, nativeSpellings()...)
	for _, s := range settings() {
		if s.Key != nativeAnnotation && s.Key != disableTapAnnotation && !s.Prefix {
			all = append(all, inheritance{key: s.Key, podsOnly: s.TemplateOnly, since: s.since})
		}
	}
	return all
}

// nativeSpellings are the annotations that have a proxy be a native sidecar or
// not. The last one that a pod has wins.
func nativeSpellings() []inheritance {
	return []inheritance{
		{key: nativeAlphaAnnotation, since: firstIn(15)},
		{key: nativeBetaAnnotation, since: firstIn(19), podsOnly: true},
		{key: nativeAnnotation, since: firstIn(20)},
	}
}

// said are the annotations that a pod is made with, before its injection.
// Without a known template they may be any of those that it has.
func said(subject mesh.Subject) map[string]string {
	if subject.Template == nil {
		return subject.Pod.Annotations
	}
	return subject.Template.Annotations
}

// wanted is the value that a pod made now would have of an annotation.
func (c controlPlane) wanted(subject mesh.Subject, i inheritance) (value string, ok bool) {
	if value, ok = said(subject)[i.key]; ok {
		return value, ok
	}
	if !i.podsOnly && c.version.Has(i.since) {
		if value, ok = subject.Namespace.Annotations[i.key]; ok {
			return value, ok
		}
	}
	if c.inherited(subject, i.key) {
		return "", false
	}
	value, ok = subject.Pod.Annotations[i.key]
	return value, ok
}

// inherited reports whether a pod may have an annotation from what it was made of
// that is not there any more. Other webhooks annotate pods too, and those made
// anew they annotate again: a restart does not end that. So a mark that is known
// to have said it counts, and what may have been said before the marks of the
// namespace last changed.
func (c controlPlane) inherited(subject mesh.Subject, key string) bool {
	if _, former := subject.Former.Annotations[key]; former {
		return true
	}
	var changed time.Time
	for _, entry := range subject.Namespace.ManagedFields {
		if entry.FieldsV1 != nil && entry.Time != nil && entry.Time.After(changed) && strings.Contains(entry.FieldsV1.GetRawString(), "linkerd.io/") {
			changed = entry.Time.Time
		}
	}
	return subject.Pod.CreationTimestamp.Time.Before(changed)
}

// Stale implements mesh.ControlPlane. A pod that the injector has just made is
// never stale: what it may add or leave out by itself is no difference.
func (c controlPlane) Stale(subject mesh.Subject, shown mesh.Proxy) []mesh.Reason {
	var reasons []mesh.Reason
	because := func(cause mesh.Cause, format string, args ...any) {
		reasons = append(reasons, mesh.Reason{Cause: cause, Detail: fmt.Sprintf(format, args...)})
	}
	if !byHand(subject.Pod) && subject.Template != nil && !(Injection{}).Claims(mesh.MarkOf(subject.Namespace), mesh.MarkOf(subject.Template)) {
		return []mesh.Reason{{Cause: mesh.Withdrawn}}
	}
	version, overridden := c.wanted(subject, inheritance{key: proxyVersionOverride})
	if !overridden {
		version = c.proxyVersion
	}
	if version != "" && shown.Version != "" && shown.Version != version {
		because(mesh.StaleVersion, "%s instead of %s", shown.Version, version)
	}
	if c.trustRoots != "" && shown.TrustRoots != "" && shown.TrustRoots != c.trustRoots {
		because(mesh.StaleTrustRoots, "%s instead of %s", brief(shown.TrustRoots), brief(c.trustRoots))
	}
	if byHand(subject.Pod) {
		for i := range reasons {
			reasons[i].Lasting = true
			reasons[i].Detail += "; the proxy is part of the pod template (linkerd inject --manual), so a restart does not renew it: take it out there (linkerd uninject)"
		}
		return reasons
	}
	if changes := c.changes(subject); len(changes) > 0 {
		because(mesh.ChangedSettings, "%s", strings.Join(changes, ", "))
	}
	if mode := c.mode(subject); mode != "" && shown.Mode != mode {
		because(mesh.OtherMode, "%s instead of %s", shown.Mode, mode)
	}
	return reasons
}

// byHand reports whether the proxy of a pod is part of its template.
func byHand(pod *corev1.Pod) bool {
	return strings.HasPrefix(pod.Annotations[createdByAnnotation], "linkerd/cli")
}

func brief(hash string) string { return hash[:min(8, len(hash))] }

// changes says which annotations of a pod are not those that it would have if it
// were made now.
func (c controlPlane) changes(subject mesh.Subject) []string {
	var changes []string
	for _, i := range c.settings {
		have, has := subject.Pod.Annotations[i.key]
		want, wants := c.wanted(subject, i)
		switch {
		case has == wants && have == want:
		case !wants && (i.podsOnly || !c.version.Has(i.since)):
			// A changed template restarts its pods anyway, so this one has it from
			// somewhere else.
		case !wants && i.key == OpaquePortsAnnotation && c.opaqueByDefault(have):
		case !has:
			changes = append(changes, i.key+" is missing")
		case i.key == additionalEnvAnnotation || len(have) > 40 || len(want) > 40:
			changes = append(changes, i.key+" is not the same")
		case !wants:
			changes = append(changes, fmt.Sprintf("%s is %q instead of unset", i.key, have))
		default:
			changes = append(changes, fmt.Sprintf("%s is %q instead of %q", i.key, have, want))
		}
	}
	if c.lacksVariables(subject) {
		changes = append(changes, additionalEnvAnnotation+" of the namespace is not the same")
	}
	// The viz extension reads this one itself, from both, and copies nothing.
	if isTrue(subject.Namespace.Annotations[disableTapAnnotation]) && isTrue(subject.Pod.Annotations[tapEnabledAnnotation]) {
		changes = append(changes, disableTapAnnotation+" of the namespace has come since")
	}
	slices.Sort(changes)
	return changes
}

func isTrue(text string) bool {
	value, err := strconv.ParseBool(text)
	return err == nil && value
}

// opaqueByDefault reports whether the injector may have said by itself that
// ports are opaque: where nobody says so, it names those of the control plane's
// list that the pod listens on.
func (c controlPlane) opaqueByDefault(ports string) bool {
	known, _, err := unstructured.NestedString(c.values, "proxy", "opaquePorts")
	if c.values == nil || err != nil {
		return true
	}
	for port := range strings.SplitSeq(ports, ",") {
		first, last, err := portRange(port)
		if err != nil || !slices.ContainsFunc(strings.Split(known, ","), func(other string) bool {
			low, high, err := portRange(strings.TrimSpace(other))
			return err == nil && low <= first && last <= high
		}) {
			return false
		}
	}
	return true
}

// lacksVariables reports whether a proxy lacks variables of its namespace. The
// pod's annotation does not tell if the pod has variables of its own, to which
// the injector adds them.
func (c controlPlane) lacksVariables(subject mesh.Subject) bool {
	if !c.version.Has(firstIn(20)) {
		return false
	}
	inner, err := environment(said(subject)[additionalEnvAnnotation])
	if err != nil {
		return false // There are none, or the injector has ignored them.
	}
	outer, err := environment(subject.Namespace.Annotations[additionalEnvAnnotation])
	proxy, _ := mesh.FindSidecar(subject.Pod, ProxyContainer)
	if err != nil || proxy == nil {
		return false
	}
	for _, variable := range outer {
		same := func(v corev1.EnvVar) bool { return v.Name == variable.Name }
		if slices.ContainsFunc(inner, same) {
			continue
		}
		if !slices.ContainsFunc(proxy.Env, func(v corev1.EnvVar) bool { return same(v) && (variable.ValueFrom != nil || v.Value == variable.Value) }) {
			return true
		}
	}
	return false
}

// mode is how the injector would place a proxy; empty if that is not known.
func (c controlPlane) mode(subject mesh.Subject) mesh.Mode {
	if c.values == nil {
		return ""
	}
	native, _, err := unstructured.NestedBool(c.values, "proxy", "nativeSidecar")
	if err != nil {
		return ""
	}
	for _, i := range nativeSpellings() {
		text, ok := c.wanted(subject, i)
		if !ok {
			continue
		}
		if !c.version.Has(i.since) {
			return "" // Edge releases on the way to it may know it.
		}
		if value, err := strconv.ParseBool(text); err == nil {
			native = value
		}
	}
	if native {
		return mesh.NativeSidecar
	}
	return mesh.Sidecar
}
