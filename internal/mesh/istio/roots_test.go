package istio

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// rootValidFrom is the PEM of an anchor.
func rootValidFrom(t *testing.T, from time.Time) string {
	t.Helper()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Subject: pki.Subject{CommonName: "root"}, Now: from, Validity: 24 * 365 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return string(anchor.CertificatePEM())
}

func TestRoots(t *testing.T) {
	t.Parallel()
	old, young := rootValidFrom(t, installed.Add(-time.Hour)), rootValidFrom(t, changed)
	before, after := changed.Add(-10*time.Minute), changed.Add(10*time.Minute)
	env := func(name string) []corev1.EnvVar { return []corev1.EnvVar{{Name: name, Value: "true"}} }
	multiroot := &kube.Workload{Template: &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Env: env("ISTIO_MULTIROOT_MESH")}}}}}
	for name, c := range map[string]struct {
		roots        string
		made, last   time.Time
		pod, started time.Time
		now          time.Time
		env          []corev1.EnvVar
		istiod       *kube.Workload
		want         bool
	}{
		"never changed":                {roots: old, made: installed, last: installed, pod: before, started: before, now: now},
		"changed since":                {roots: old + young, made: installed, last: changed, pod: before, started: before, now: now, want: true},
		"anchor taken away since":      {roots: old, made: installed, last: changed, pod: before, started: before, now: now, want: true},
		"changed before":               {roots: old + young, made: installed, last: changed, pod: after, started: after, now: now},
		"at the same second":           {roots: old + young, made: installed, last: changed, pod: changed, started: changed, now: now},
		"pod is new, clock is slow":    {roots: old + young, made: installed, last: changed, pod: after, started: before, now: now},
		"proxy started again":          {roots: old + young, made: installed, last: changed, pod: before, started: after, now: now},
		"not started":                  {roots: old + young, made: installed, last: changed, pod: before, now: now},
		"renewed by itself":            {roots: old + young, made: installed, last: changed, pod: before, started: before, now: changed.Add(12 * time.Hour)},
		"renewed in a moment":          {roots: old + young, made: installed, last: changed, pod: before, started: before, now: changed.Add(12*time.Hour - time.Second), want: true},
		"no clock":                     {roots: old + young, made: installed, last: changed, pod: before, started: before},
		"installed anew, same root":    {roots: old, made: changed, last: changed, pod: before, started: before, now: now},
		"installed anew, new root":     {roots: young, made: changed, last: changed, pod: before, started: before, now: now, want: true},
		"installed anew, pod since":    {roots: young, made: changed, last: changed, pod: after, started: after, now: now},
		"unreadable":                   {roots: "?", made: installed, last: changed, pod: before, started: before, now: now, want: true},
		"told at once":                 {roots: old + young, made: installed, last: changed, pod: before, started: before, now: now, env: env("PROXY_CONFIG_XDS_AGENT"), istiod: multiroot},
		"would be told, istiod mute":   {roots: old + young, made: installed, last: changed, pod: before, started: before, now: now, env: env("PROXY_CONFIG_XDS_AGENT"), want: true},
		"would tell, proxy is deaf":    {roots: old + young, made: installed, last: changed, pod: before, started: before, now: now, istiod: multiroot, want: true},
		"nobody says when it changed?": {roots: old + young, made: installed, pod: before, started: before, now: now, want: false},
	} {
		pod := podOf(marked(), "istio-proxy")
		pod.CreationTimestamp = metav1.NewTime(c.pod)
		pod.Spec.Containers[1].Env = c.env
		if !c.started.IsZero() {
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{
				{Name: "alpha", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now)}}},
				{Name: "istio-proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.started)}}},
			}
		}
		published := configMapOf(rootConfigMap, map[string]string{"root-cert.pem": c.roots}, c.made, c.last)
		if reason, stale := rootsOf(published).stale(mesh.Subject{Pod: pod, Now: c.now}, c.istiod); stale != c.want {
			t.Errorf("%s: %t (%v)", name, stale, reason)
		}
	}
	if reason, stale := (roots{}).stale(mesh.Subject{Pod: podOf(marked(), "istio-proxy"), Now: now}, nil); stale {
		t.Errorf("no roots at all: %v", reason)
	}
}
