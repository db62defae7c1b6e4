package istio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
)

// injectorConfigMap is the ConfigMap that the default revision injects by.
const injectorConfigMap = "istio-sidecar-injector"

// A revision is one istiod and what it injects by.
type revision struct {
	ref    kube.Ref
	istiod *kube.Workload  // nil if it is not there
	config *injectorConfig // nil if it is not there
}

func revisionIn(ctx context.Context, cluster *kube.Cluster, namespace string, by injector) (*revision, error) {
	r := &revision{ref: kube.Ref{Kind: kube.Deployment, Namespace: namespace, Name: deploymentOf(by.revision)}}
	if by.namespace != "" {
		istiod, err := cluster.Workload(ctx, r.ref)
		if err != nil && !errors.Is(err, kube.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			r.istiod = istiod
		}
	}
	config, err := injectorConfigIn(ctx, cluster, namespace, by.revision)
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return nil, err
	}
	r.config = config
	return r, nil
}

// available returns nil when istiod answers, by what it injects now.
func (r *revision) available() error {
	switch w := r.istiod; {
	case w == nil:
		return fmt.Errorf("%s is not there", r.ref)
	case w.Available == 0:
		return fmt.Errorf("%s has no available pod", r.ref)
	case w.ObservedGeneration < w.Generation || w.Updated < w.Current:
		return fmt.Errorf("%s still rolls out, and its old pods inject what they were told before", r.ref)
	}
	return nil
}

// refuses is why istiod leaves a pod alone that it is asked about.
func (r *revision) refuses(pod *corev1.Pod) error {
	if r == nil || r.config == nil {
		return nil
	}
	if value, _ := injectOf(mesh.MarkOf(pod)); value == yes {
		return nil
	}
	matches := func(s labels.Selector) bool { return !s.Empty() && s.Matches(labels.Set(pod.Labels)) }
	if i := slices.IndexFunc(r.config.never, matches); i >= 0 {
		return fmt.Errorf("istiod leaves pods with the labels %s alone (value sidecarInjectorWebhook.neverInjectSelector of its chart)", r.config.never[i])
	}
	if r.config.policy == disabled && !slices.ContainsFunc(r.config.always, matches) {
		return fmt.Errorf("istiod injects only pods with the label %s=true (value global.proxy.autoInject of its chart is disabled)", injectLabel)
	}
	return nil
}

// An injectorConfig is what an istiod injects by.
type injectorConfig struct {
	image         string // of the proxy, without its variant
	statusPort    string // of the agent
	cni           bool   // pods are redirected by istio-cni
	policy        string
	never, always []labels.Selector
	templates     map[string]string // texts of the injection templates
	defaults      []string          // names of those that pods are given
	aliases       map[string][]string
	changed       time.Time // when it last was; zero if that is unknown
}

// injectorConfigIn reads what a revision injects by. The error wraps
// [kube.ErrNotFound] if there is no telling.
func injectorConfigIn(ctx context.Context, cluster *kube.Cluster, namespace, revision string) (*injectorConfig, error) {
	ref := kube.Ref{Kind: kube.ConfigMap, Namespace: namespace, Name: suffixed(injectorConfigMap, revision)}
	configuration, err := cluster.ConfigMap(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	config, err := injectorConfigOf(configuration)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return config, nil
}

func injectorConfigOf(configuration *corev1.ConfigMap) (*injectorConfig, error) {
	var values struct {
		Global struct {
			Hub   string `json:"hub"`
			Tag   any    `json:"tag"` // 1.31 is a number
			Proxy struct {
				Image      string `json:"image"`
				StatusPort any    `json:"statusPort"`
			} `json:"proxy"`
		} `json:"global"`
		Pilot struct {
			CNI struct {
				Enabled bool `json:"enabled"`
			} `json:"cni"`
		} `json:"pilot"`
		// Until 1.23.
		IstioCNI struct {
			Enabled bool `json:"enabled"`
		} `json:"istio_cni"`
	}
	if err := json.Unmarshal([]byte(configuration.Data["values"]), &values); err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	var config struct {
		Policy               string                 `json:"policy"`
		DefaultTemplates     []string               `json:"defaultTemplates"`
		Templates            map[string]string      `json:"templates"`
		Aliases              map[string][]string    `json:"aliases"`
		NeverInjectSelector  []metav1.LabelSelector `json:"neverInjectSelector"`
		AlwaysInjectSelector []metav1.LabelSelector `json:"alwaysInjectSelector"`
	}
	if err := yaml.Unmarshal([]byte(configuration.Data["config"]), &config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	global := values.Global
	c := &injectorConfig{
		image:      global.Proxy.Image,
		statusPort: fmt.Sprint(global.Proxy.StatusPort),
		cni:        values.Pilot.CNI.Enabled || values.IstioCNI.Enabled,
		policy:     config.Policy,
		templates:  config.Templates,
		defaults:   config.DefaultTemplates,
		aliases:    config.Aliases,
		never:      selectorsOf(config.NeverInjectSelector),
		always:     selectorsOf(config.AlwaysInjectSelector),
		changed:    changeOf(configuration),
	}
	if !strings.Contains(c.image, "/") {
		c.image = fmt.Sprintf("%s/%s:%s", global.Hub, c.image, plainTag(fmt.Sprint(global.Tag)))
	}
	if len(c.defaults) == 0 {
		c.defaults = []string{sidecarTemplate}
	}
	return c, nil
}

// selectorsOf leaves out, as istiod does, what is no selector.
func selectorsOf(given []metav1.LabelSelector) []labels.Selector {
	var selectors []labels.Selector
	for _, s := range given {
		if selector, err := metav1.LabelSelectorAsSelector(&s); err == nil {
			selectors = append(selectors, selector)
		}
	}
	return selectors
}

// changeOf is when the data of a ConfigMap last changed, by those who manage it;
// zero if nobody says.
func changeOf(configuration *corev1.ConfigMap) time.Time {
	var last time.Time
	for _, entry := range configuration.ManagedFields {
		if entry.FieldsV1 != nil && strings.Contains(entry.FieldsV1.GetRawString(), `"f:data"`) && entry.Time != nil && entry.Time.After(last) {
			last = entry.Time.Time
		}
	}
	return last
}

// sidecarTemplate is the injection template that pods are given by default.
const sidecarTemplate = "sidecar"

// selected are the names of the injection templates for pods with some
// annotations (pkg/kube/inject, selectTemplates).
func (c *injectorConfig) selected(annotations map[string]string) []string {
	names := c.defaults
	if own, set := annotations[templatesAnnotation]; set {
		names = strings.Split(own, ",")
	}
	var resolved []string
	for _, name := range names {
		name = strings.TrimSpace(name)
		if others, is := c.aliases[name]; is {
			resolved = append(resolved, others...)
		} else {
			resolved = append(resolved, name)
		}
	}
	return resolved
}

// stale compares a pod with what istiod would make of it now. It says nothing
// where it cannot know: a pod that was just made must never be taken for stale,
// or there would be no end of restarts.
func (r *revision) stale(subject mesh.Subject, shown mesh.Proxy) []mesh.Reason {
	if subject.Template == nil || r.config == nil {
		return nil
	}
	var reasons []mesh.Reason
	template := subject.Template.Annotations
	selected := r.config.selected(template)
	if detail := r.config.versionChange(subject, shown, selected); detail != "" {
		reasons = append(reasons, mesh.Reason{Cause: mesh.StaleVersion, Detail: detail})
	}
	if detail := r.config.settingsChange(subject); detail != "" {
		reasons = append(reasons, mesh.Reason{Cause: mesh.ChangedSettings, Detail: detail})
	}
	if wish := template[nativeSidecarAnnotation]; wish != "" && slices.Equal(selected, []string{sidecarTemplate}) &&
		// Istiods that do not know the annotation do nothing about it.
		strings.Contains(r.config.templates[sidecarTemplate], nativeSidecarAnnotation) {
		want := mesh.NativeSidecar
		if wish == no {
			want = mesh.Sidecar
		}
		if shown.Mode != want {
			reasons = append(reasons, mesh.Reason{Cause: mesh.OtherMode, Detail: fmt.Sprintf("%s instead of %s", shown.Mode, want)})
		}
	}
	return reasons
}

// versionChange says how the image of a proxy differs from what would be
// injected; empty if it does not, or if somebody else decides on it.
func (c *injectorConfig) versionChange(subject mesh.Subject, shown mesh.Proxy, selected []string) string {
	if subject.Template.Annotations[proxyImageAnnotation] != "" || subject.Pod.Annotations[proxyImageAnnotation] != "" || sameImage(shown.Image, c.image) {
		return ""
	}
	for _, container := range slices.Concat(subject.Template.Spec.Containers, subject.Template.Spec.InitContainers) {
		if container.Name == proxyContainer && container.Image != "" && container.Image != "auto" {
			return ""
		}
	}
	for _, name := range selected {
		// A template of the user's with an image of its own.
		if text := c.templates[name]; strings.Contains(text, "image:") && !strings.Contains(text, ".ProxyImage") {
			return ""
		}
	}
	if subject.Pod.CreationTimestamp.After(c.changed) {
		// It was given that image, so somebody else has changed it on the way: a
		// policy that names images by their digests, or a mirror of a registry.
		return ""
	}
	if from, to := shown.Version, versionOf(c.image); from != "" && to != "" && from != to {
		return fmt.Sprintf("%s instead of %s", from, to)
	}
	return fmt.Sprintf("image %s instead of %s", shown.Image, c.image)
}

var prerelease = regexp.MustCompile(`^(alpha|beta|rc)\b`)

// sameImage reports whether an image is another one in any variant: pods, the
// mesh and resources of their own may choose the variant. A digest that the other
// one does not name is somebody else's addition to the same tag.
func sameImage(image, of string) bool {
	if !strings.Contains(of, "@") {
		image, _, _ = strings.Cut(image, "@")
	}
	if image == of {
		return true
	}
	variant, found := strings.CutPrefix(image, of+"-")
	return found && !prerelease.MatchString(variant)
}

// settingsChange says which annotations that configure the proxy differ from
// those of the pod's template; empty if none does. What the pod has besides may
// be the injector's or anybody's: that a template no longer has it does not show.
func (c *injectorConfig) settingsChange(subject mesh.Subject) string {
	pod, template := subject.Pod.Annotations, subject.Template.Annotations
	var changes []string
	wanted := settingsIn(template)
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		got, set := pod[key]
		switch {
		case !set:
			changes = append(changes, fmt.Sprintf("annotation %s is missing", key))
		case !c.says(key, got, wanted[key], pod) && (Injection{}).Secret(key):
			changes = append(changes, fmt.Sprintf("annotation %s is not the same", key))
		case !c.says(key, got, wanted[key], pod):
			changes = append(changes, fmt.Sprintf("annotation %s is %q instead of %q", key, got, wanted[key]))
		}
	}
	return strings.Join(changes, ", ")
}

// says reports whether an annotation of a pod is what its template says, as the
// injector has passed it on: for istio-cni it adds the agent's port.
func (c *injectorConfig) says(key, got, want string, pod map[string]string) bool {
	if got == want || key != excludeInboundPorts {
		return got == want
	}
	status, set := pod[statusPortAnnotation]
	if !set {
		status = c.statusPort
	}
	ports := func(text string) []string {
		var all []string
		for port := range strings.SplitSeq(text, ",") {
			if port = strings.TrimSpace(port); port != "" && port != status {
				all = append(all, port)
			}
		}
		return all
	}
	return slices.Equal(ports(got), ports(want))
}
