package linkerd

import (
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// someTime is when the tests take place.
func someTime() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// chartWebhook is the injector's webhook with the selectors of the chart.
func chartWebhook(bundle []byte) *admissionregistrationv1.MutatingWebhook {
	return &admissionregistrationv1.MutatingWebhook{
		ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: bundle},
		NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: admissionWebhooksLabel, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"disabled"}},
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system", "cert-manager"}},
		}},
		ObjectSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: componentLabel, Operator: metav1.LabelSelectorOpDoesNotExist},
			{Key: cniResourceLabel, Operator: metav1.LabelSelectorOpDoesNotExist},
		}},
	}
}

func servingBundle(t *testing.T, at time.Time) []byte {
	t.Helper()
	pair, err := pki.NewServingCertificate(pki.ServingOptions{DNSName: "linkerd-proxy-injector.linkerd.svc", Now: at})
	if err != nil {
		t.Fatal(err)
	}
	return pki.NewBundle(pair.Certificate()).PEM()
}

func TestControlPlaneIsAvailable(t *testing.T) {
	t.Parallel()
	sound := servingBundle(t, someTime())
	old := servingBundle(t, someTime().AddDate(-20, 0, 0))
	for name, test := range map[string]struct {
		change func(*controlPlane)
		want   string // part of the error; empty if there is none
	}{
		"as it should be":           {func(*controlPlane) {}, ""},
		"a replica is missing":      {func(c *controlPlane) { c.injector.Desired, c.injector.Current, c.injector.Updated = 3, 3, 3 }, ""},
		"after a renewal":           {func(c *controlPlane) { c.webhook.ClientConfig.CABundle = append(old, sound...) }, ""},
		"bundle of another form":    {func(c *controlPlane) { c.webhook.ClientConfig.CABundle = []byte("# one of ours\n") }, ""},
		"no webhook":                {func(c *controlPlane) { c.webhook = nil }, "linkerd-proxy-injector-webhook-config is missing"},
		"no bundle":                 {func(c *controlPlane) { c.webhook.ClientConfig.CABundle = nil }, "has no caBundle yet"},
		"expired":                   {func(c *controlPlane) { c.webhook.ClientConfig.CABundle = old }, "have expired"},
		"no pod":                    {func(c *controlPlane) { c.injector.Available = 0 }, "Deployment linkerd/linkerd-proxy-injector has no available pod"},
		"an old pod":                {func(c *controlPlane) { c.injector.Current = 2 }, "is rolling out (1 of 2 pods are new)"},
		"an upgrade not yet begun":  {func(c *controlPlane) { c.injector.Generation = 3 }, "is rolling out"},
		"an upgrade that was begun": {func(c *controlPlane) { c.injector.Updated = 0 }, "is rolling out (0 of 1 pods are new)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plane := controlPlane{
				injector: &kube.Workload{
					Ref:        kube.Ref{Kind: kube.Deployment, Namespace: "linkerd", Name: "linkerd-proxy-injector"},
					Generation: 2, ObservedGeneration: 2, Desired: 1, Current: 1, Updated: 1, Available: 1,
				},
				webhook: chartWebhook(sound), now: someTime(),
			}
			test.change(&plane)
			expectError(t, plane.Available(), test.want)
		})
	}
}

// expectError expects an error that says something; none if that is empty.
func expectError(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestControlPlaneSees(t *testing.T) {
	t.Parallel()
	enforced := func(requirement metav1.LabelSelectorRequirement) *admissionregistrationv1.MutatingWebhook {
		w := chartWebhook(nil)
		w.NamespaceSelector.MatchExpressions = append(w.NamespaceSelector.MatchExpressions, requirement)
		return w
	}
	aks := enforced(metav1.LabelSelectorRequirement{Key: "control-plane", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"true"}})
	formerAKS := enforced(metav1.LabelSelectorRequirement{Key: "control-plane", Operator: metav1.LabelSelectorOpDoesNotExist})
	managedAKS := enforced(metav1.LabelSelectorRequirement{Key: "kubernetes.azure.com/managedby", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"aks"}})
	optIn := enforced(metav1.LabelSelectorRequirement{Key: "mesh", Operator: metav1.LabelSelectorOpIn, Values: []string{"linkerd", "both"}})
	named := chartWebhook(nil)
	named.NamespaceSelector.MatchLabels = map[string]string{corev1.LabelMetadataName: "shop"}
	picky := chartWebhook(nil)
	picky.ObjectSelector.MatchLabels = map[string]string{"app": "web"}
	broken := enforced(metav1.LabelSelectorRequirement{Key: "mesh", Operator: "Perhaps"})

	namespace := func(name string, labels map[string]string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{injectAnnotation: "enabled"}}}
	}
	invalid := namespace("shop", nil)
	invalid.Annotations[injectAnnotation] = "true"
	shop := namespace("shop", nil)
	for name, test := range map[string]struct {
		webhook   *admissionregistrationv1.MutatingWebhook
		namespace *corev1.Namespace
		pod       map[string]string // labels
		want      string            // part of the error; empty if there is none
	}{
		"as it should be":   {chartWebhook(nil), shop, map[string]string{"app": "web"}, ""},
		"no selectors":      {&admissionregistrationv1.MutatingWebhook{}, namespace("kube-system", nil), nil, ""},
		"other labels":      {chartWebhook(nil), namespace("shop", map[string]string{admissionWebhooksLabel: "enabled", "control-plane": "true"}), nil, ""},
		"no webhook":        {nil, shop, nil, "linkerd-proxy-injector-webhook-config is missing"},
		"webhooks disabled": {chartWebhook(nil), namespace("shop", map[string]string{admissionWebhooksLabel: "disabled"}), nil, "the label config.linkerd.io/admission-webhooks=disabled of Namespace shop keeps the injector of Linkerd away"},
		"by name":           {chartWebhook(nil), namespace("kube-system", nil), nil, "never sees pods of "},
		"by a forged name":  {named, namespace("bank", map[string]string{corev1.LabelMetadataName: "shop"}), nil, "never sees"},
		"only by name":      {named, shop, nil, ""},
		"part of Linkerd":   {chartWebhook(nil), shop, map[string]string{componentLabel: "tap"}, `the labels of its pods do not meet "!linkerd.io/control-plane-component"`},
		"part of its CNI":   {chartWebhook(nil), shop, map[string]string{cniResourceLabel: "true"}, `"!linkerd.io/cni-resource"`},
		"not for AKS":       {aks, shop, nil, ""},
		"other on AKS":      {aks, namespace("shop", map[string]string{"control-plane": "controller-manager"}), nil, ""},
		"AKS":               {aks, namespace("shop", map[string]string{"control-plane": "true"}), nil, "the label control-plane=true of Namespace shop keeps the injector of Linkerd away: the admissions enforcer of AKS"},
		"former AKS":        {formerAKS, namespace("shop", map[string]string{"control-plane": "controller-manager"}), nil, "admissions.enforcer/disabled=true"},
		"managed by AKS":    {managedAKS, namespace("shop", map[string]string{"kubernetes.azure.com/managedby": "aks"}), nil, "admissions enforcer"},
		"opted in":          {optIn, namespace("shop", map[string]string{"mesh": "both"}), nil, ""},
		"not opted in":      {optIn, shop, nil, `the labels of Namespace shop do not meet "mesh in (both,linkerd)"`},
		"picked":            {picky, shop, map[string]string{"app": "web"}, ""},
		"not picked":        {picky, shop, nil, `"app=web"`},
		"invalid value":     {chartWebhook(nil), invalid, nil, `the annotation linkerd.io/inject of Namespace shop has the invalid value "true"`},
		"invalid selector":  {broken, shop, nil, "linkerd-proxy-injector-webhook-config"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plane := controlPlane{webhook: test.webhook}
			expectError(t, plane.Sees(test.namespace, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: test.pod}}), test.want)
		})
	}
}

// TestControlPlaneSees_tokens has pods without the token of their service account,
// which a proxy needs if none of its own is projected.
func TestControlPlaneSees_tokens(t *testing.T) {
	t.Parallel()
	projects := func(value bool) map[string]any {
		return map[string]any{"identity": map[string]any{"serviceAccountTokenProjection": value}}
	}
	for name, test := range map[string]struct {
		values map[string]any
		mounts *bool
		want   string // part of the error; empty if there is none
	}{
		"projected":               {projects(true), new(false), ""},
		"not recorded":            {nil, new(false), ""},
		"of the service account":  {projects(false), nil, ""},
		"mounted":                 {projects(false), new(true), ""},
		"neither one nor another": {projects(false), new(false), "automountServiceAccountToken: false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plane := controlPlane{webhook: chartWebhook(nil), values: test.values}
			pod := &corev1.Pod{Spec: corev1.PodSpec{AutomountServiceAccountToken: test.mounts}}
			expectError(t, plane.Sees(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, pod), test.want)
		})
	}
}

func TestControlPlaneIsPrivileged(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		values map[string]any
		want   bool
	}{
		"with CNI":    {map[string]any{"cniEnabled": true}, false},
		"without CNI": {map[string]any{"cniEnabled": false}, true},
		"unknown":     {nil, true},
	} {
		if got := (controlPlane{values: test.values}).Privileged(); got != test.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

// A stale test is a pod that was injected, and what has become of what it was
// made from.
type staleTest struct {
	plane                    controlPlane
	namespace, template, pod map[string]string // annotations
	former                   map[string]string // annotations of the mark before
	older                    bool              // the pod is from before the namespace last changed
	noTemplate               bool
	mode                     mesh.Mode
	env                      []corev1.EnvVar
	want                     []mesh.Reason
}

func TestStale(t *testing.T) {
	t.Parallel()
	const (
		cpu       = configPrefix + "proxy-cpu-request"
		closeWait = configPrefix + "close-wait-timeout"
		gid       = configPrefix + "proxy-gid"
		roots     = "0123456789abcdef"
	)
	current := func(version string) controlPlane {
		parsed, err := ParseVersion(version)
		if err != nil {
			t.Fatal(err)
		}
		return controlPlane{
			values: map[string]any{"proxy": map[string]any{"nativeSidecar": true, "opaquePorts": "25,587,3306,4444,5000-5100"}}, version: parsed, proxyVersion: version,
			trustRoots: roots, settings: inheritances(),
		}
	}
	newest := func(change func(*controlPlane)) controlPlane {
		plane := current("edge-26.8.3")
		change(&plane)
		return plane
	}
	only := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	on := func(pairs ...string) map[string]string { return only(append(pairs, injectAnnotation, enabled)...) }
	changed := func(detail string) []mesh.Reason {
		return []mesh.Reason{{Cause: mesh.ChangedSettings, Detail: detail}}
	}
	for name, test := range map[string]staleTest{
		"current by namespace": {namespace: on(), pod: on()},
		"current by template":  {template: on(), pod: on()},
		"current both":         {namespace: on(), template: on(), pod: on()},
		"with settings":        {namespace: on(cpu, "1", closeWait, "1m"), template: only(gid, "7"), pod: on(cpu, "1", gid, "7")},
		"template beats":       {namespace: on(cpu, "1"), template: only(cpu, "2"), pod: on(cpu, "2")},
		"empty is a value too": {namespace: on(OpaquePortsAnnotation, ""), pod: on(OpaquePortsAnnotation, "")},
		"by another's hand":    {namespace: on(), pod: on(closeWait, "1m", traceLabelPrefix+"team", "graph", "team", "graph")},
		"unknown to the control plane": {
			plane: newest(func(c *controlPlane) { c.values, c.proxyVersion, c.trustRoots, c.version = nil, "", "", Version{} }),
			mode:  mesh.Sidecar, namespace: on(gid, "7"), pod: on(proxyVersionAnnotation, "edge-1.1.1", OpaquePortsAnnotation, "9999"),
		},
		"says nothing of itself": {namespace: on(), pod: on(trustRootAnnotation, "", proxyVersionAnnotation, "")},

		"version": {
			namespace: on(), pod: on(proxyVersionAnnotation, "edge-26.6.3"),
			want: []mesh.Reason{{Cause: mesh.StaleVersion, Detail: "edge-26.6.3 instead of edge-26.8.3"}},
		},
		"version by template":      {namespace: on(), template: only(proxyVersionOverride, "v1"), pod: on(proxyVersionOverride, "v1", proxyVersionAnnotation, "v1")},
		"version by namespace":     {namespace: on(proxyVersionOverride, "v1"), pod: on(proxyVersionOverride, "v1", proxyVersionAnnotation, "v1")},
		"version without template": {namespace: on(), noTemplate: true, pod: on(proxyVersionOverride, "v1", proxyVersionAnnotation, "v1")},
		"version no longer overridden": {
			namespace: on(), pod: on(proxyVersionOverride, "v1", proxyVersionAnnotation, "v1"), former: only(proxyVersionOverride, "v1"),
			want: []mesh.Reason{
				{Cause: mesh.StaleVersion, Detail: "v1 instead of edge-26.8.3"},
				{Cause: mesh.ChangedSettings, Detail: proxyVersionOverride + ` is "v1" instead of unset`},
			},
		},
		"roots": {
			namespace: on(), pod: on(trustRootAnnotation, "fedcba9876543210"),
			want: []mesh.Reason{{Cause: mesh.StaleTrustRoots, Detail: "fedcba98 instead of 01234567"}},
		},
		"by hand": {
			template: only(createdByAnnotation, "linkerd/cli edge-26.6.3"), mode: mesh.Sidecar,
			pod: only(createdByAnnotation, "linkerd/cli edge-26.6.3", proxyVersionAnnotation, "edge-26.6.3", cpu, "1"),
			want: []mesh.Reason{{
				Cause: mesh.StaleVersion, Lasting: true,
				Detail: "edge-26.6.3 instead of edge-26.8.3; the proxy is part of the pod template (linkerd inject --manual), so a restart does not renew it: take it out there (linkerd uninject)",
			}},
		},
		"by hand and current": {pod: only(createdByAnnotation, "linkerd/cli edge-26.8.3"), mode: mesh.Sidecar},

		"no longer enrolled":       {pod: on(), want: []mesh.Reason{{Cause: mesh.Withdrawn}}},
		"template opts out":        {namespace: on(), template: only(injectAnnotation, disabled), pod: on(), want: []mesh.Reason{{Cause: mesh.Withdrawn}}},
		"perhaps by itself":        {noTemplate: true, pod: on()},
		"ingress":                  {namespace: only(injectAnnotation, ingress), pod: on(), want: changed(injectAnnotation + ` is "enabled" instead of "ingress"`)},
		"no longer ingress":        {namespace: on(), pod: only(injectAnnotation, ingress), want: changed(injectAnnotation + ` is "ingress" instead of "enabled"`)},
		"changed":                  {namespace: on(cpu, "2"), pod: on(cpu, "1"), want: changed(cpu + ` is "1" instead of "2"`)},
		"changed on the template":  {namespace: on(), template: only(closeWait, "2m"), pod: on(closeWait, "1m"), want: changed(closeWait + ` is "1m" instead of "2m"`)},
		"added":                    {namespace: on(cpu, "2", gid, "7"), pod: on(), want: changed(cpu + " is missing, " + gid + " is missing")},
		"added, seen without one":  {namespace: on(cpu, "2"), noTemplate: true, pod: on(), want: changed(cpu + " is missing")},
		"own, seen without one":    {namespace: on(cpu, "2"), noTemplate: true, pod: on(cpu, "1")},
		"others' webhooks":         {namespace: on(), pod: on(cpu, "1", proxyVersionOverride, "v1", proxyVersionAnnotation, "v1")},
		"others' word on place":    {mode: mesh.Sidecar, namespace: on(), pod: on(nativeAnnotation, "false")},
		"removed before":           {namespace: on(), pod: on(cpu, "1"), older: true, want: changed(cpu + ` is "1" instead of unset`)},
		"removed":                  {namespace: on(), pod: on(cpu, "1"), former: only(cpu, "1"), want: changed(cpu + ` is "1" instead of unset`)},
		"not to be had":            {namespace: on(closeWait, "1m"), pod: on()},
		"too new for it":           {plane: current("edge-24.2.4"), mode: mesh.NativeSidecar, namespace: on(gid, "7"), pod: on(proxyVersionAnnotation, "edge-24.2.4")},
		"too new, but there":       {plane: current("edge-24.2.4"), mode: mesh.NativeSidecar, namespace: on(), pod: on(proxyVersionAnnotation, "edge-24.2.4", gid, "7")},
		"long":                     {namespace: on(cpu, strings.Repeat("1", 50)), pod: on(cpu, "1"), want: changed(cpu + " is not the same")},
		"opaque by default":        {namespace: on(), pod: on(OpaquePortsAnnotation, "3306,5001-5002")},
		"opaque no longer":         {namespace: on(), pod: on(OpaquePortsAnnotation, "3306,9999"), older: true, want: changed(OpaquePortsAnnotation + ` is "3306,9999" instead of unset`)},
		"opaque by a name":         {namespace: on(), pod: on(OpaquePortsAnnotation, "mysql"), former: only(OpaquePortsAnnotation, "mysql"), want: changed(OpaquePortsAnnotation + ` is "mysql" instead of unset`)},
		"opaque ports instead":     {namespace: on(OpaquePortsAnnotation, "4000"), pod: on(OpaquePortsAnnotation, "3306"), want: changed(OpaquePortsAnnotation + ` is "3306" instead of "4000"`)},
		"no tap any more":          {namespace: on(disableTapAnnotation, "true"), pod: on(tapEnabledAnnotation, "true"), want: changed(disableTapAnnotation + " of the namespace has come since")},
		"no tap":                   {namespace: on(disableTapAnnotation, "true"), pod: on()},
		"tap":                      {namespace: on(disableTapAnnotation, "false"), pod: on(tapEnabledAnnotation, "true")},
		"variables are not quoted": {namespace: on(additionalEnvAnnotation, `[{"name":"A","value":"secret"}]`), pod: on(additionalEnvAnnotation, `[]`), want: changed(additionalEnvAnnotation + " is not the same")},
		"variables of both": {
			namespace: on(additionalEnvAnnotation, `[{"name":"A","value":"1"},{"name":"B","value":"2"},{"name":"C","valueFrom":{}}]`), template: only(additionalEnvAnnotation, `[{"name":"B","value":"3"}]`),
			pod: on(additionalEnvAnnotation, `[{"name":"B","value":"3"}]`),
			env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "3"}, {Name: "C", ValueFrom: &corev1.EnvVarSource{}}},
		},
		"variables of the namespace changed": {
			namespace: on(additionalEnvAnnotation, `[{"name":"A","value":"2"}]`), template: only(additionalEnvAnnotation, `[{"name":"B","value":"3"}]`),
			pod:  on(additionalEnvAnnotation, `[{"name":"B","value":"3"}]`),
			env:  []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "3"}},
			want: changed(additionalEnvAnnotation + " of the namespace is not the same"),
		},
		"variables that nobody reads": {
			namespace: on(additionalEnvAnnotation, `A=2`), template: only(additionalEnvAnnotation, `[{"name":"B","value":"3"}]`),
			pod: on(additionalEnvAnnotation, `[{"name":"B","value":"3"}]`),
			env: []corev1.EnvVar{{Name: "B", Value: "3"}},
		},

		"other place":           {mode: mesh.Sidecar, namespace: on(), pod: on(), want: []mesh.Reason{{Cause: mesh.OtherMode, Detail: "sidecar instead of native-sidecar"}}},
		"place by namespace":    {mode: mesh.Sidecar, namespace: on(nativeAnnotation, "false"), pod: on(nativeAnnotation, "false")},
		"place by template":     {mode: mesh.Sidecar, namespace: on(nativeAnnotation, "true"), template: only(nativeAnnotation, "false"), pod: on(nativeAnnotation, "false")},
		"place, stable wins":    {namespace: on(), template: only(nativeAlphaAnnotation, "false", nativeBetaAnnotation, "false", nativeAnnotation, "true"), pod: on(nativeAlphaAnnotation, "false", nativeBetaAnnotation, "false", nativeAnnotation, "true")},
		"place by alpha":        {mode: mesh.Sidecar, namespace: on(nativeAlphaAnnotation, "false"), pod: on(nativeAlphaAnnotation, "false")},
		"place by beta":         {mode: mesh.Sidecar, namespace: on(), template: only(nativeBetaAnnotation, "false"), pod: on(nativeBetaAnnotation, "false")},
		"beta of the namespace": {namespace: on(nativeBetaAnnotation, "false"), pod: on()},
		"place nobody can read": {namespace: on(nativeAnnotation, "no"), pod: on(nativeAnnotation, "no")},
		"place of its own":      {mode: mesh.Sidecar, namespace: on(), noTemplate: true, pod: on(nativeAnnotation, "false")},
		"place, half known": {
			plane: current("edge-26.5.1"), mode: mesh.Sidecar, namespace: on(), template: only(nativeAnnotation, "false"),
			pod: on(nativeAnnotation, "false", proxyVersionAnnotation, "edge-26.5.1"),
		},
		"place by default before 2.20": {
			plane: newest(func(c *controlPlane) { c.values = map[string]any{"proxy": map[string]any{}} }), mode: mesh.Sidecar, namespace: on(), pod: on(),
		},

		"everything": {
			mode: mesh.Sidecar, namespace: on(cpu, "2"), pod: on(proxyVersionAnnotation, "edge-26.6.3", trustRootAnnotation, "ffffffffffff", cpu, "1"),
			want: []mesh.Reason{
				{Cause: mesh.StaleVersion, Detail: "edge-26.6.3 instead of edge-26.8.3"},
				{Cause: mesh.StaleTrustRoots, Detail: "ffffffff instead of 01234567"},
				{Cause: mesh.ChangedSettings, Detail: cpu + ` is "1" instead of "2"`},
				{Cause: mesh.OtherMode, Detail: "sidecar instead of native-sidecar"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.plane.settings == nil {
				test.plane = current("edge-26.8.3")
			}
			for key, value := range map[string]string{proxyVersionAnnotation: "edge-26.8.3", trustRootAnnotation: roots} {
				if _, ok := test.pod[key]; !ok {
					test.pod[key] = value
				}
			}
			subject := test.subject()
			got := test.plane.Stale(subject, Injection{}.Proxy(subject.Pod))
			if len(got) != len(test.want) {
				t.Fatalf("got %v, want %v", got, test.want)
			}
			for i, reason := range got {
				if reason != test.want[i] {
					t.Errorf("got %v, want %v", reason, test.want[i])
				}
			}
		})
	}
}

func (s staleTest) subject() mesh.Subject {
	proxy := corev1.Container{Name: ProxyContainer, Image: "cr.l5d.io/linkerd/proxy", Env: s.env}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "alpha-0", Namespace: "shop", Annotations: s.pod}}
	if s.mode == mesh.Sidecar {
		pod.Spec.Containers = []corev1.Container{proxy}
	} else {
		always := corev1.ContainerRestartPolicyAlways
		proxy.RestartPolicy = &always
		pod.Spec.InitContainers = []corev1.Container{proxy}
	}
	subject := mesh.Subject{Pod: pod, Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: s.namespace}}}
	subject.Former = mesh.Mark{Annotations: s.former}
	if s.older {
		pod.CreationTimestamp = metav1.NewTime(someTime())
		subject.Namespace.ManagedFields = []metav1.ManagedFieldsEntry{
			{Manager: "others", Time: &metav1.Time{Time: someTime().Add(-time.Hour)}, FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:team":{}}}}`)},
			{Manager: "kubectl", Time: &metav1.Time{Time: someTime().Add(time.Second)}, FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:annotations":{"f:linkerd.io/inject":{}}}}`)},
		}
	}
	if !s.noTemplate {
		subject.Template = &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Annotations: s.template}}
	}
	return subject
}
