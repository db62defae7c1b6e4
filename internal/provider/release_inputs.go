package provider

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/release"
)

// releaseInputs are the settings of a release that its record keeps, for an
// import and to tell when somebody else has deployed it. Names and order of the
// fields are part of the record's format.
type releaseInputs struct {
	CreateNamespace bool                      `json:"createNamespace,omitempty"`
	Chart           *chartInputs              `json:"chart,omitempty"`
	Values          []string                  `json:"values,omitempty"`
	Manifests       []string                  `json:"manifests,omitempty"`
	ManifestURLs    []urlInputs               `json:"manifestURLs,omitempty"`
	Mesh            map[string]map[string]any `json:"mesh,omitempty"`
	SecretsRevision int64                     `json:"secretsRevision,omitempty"`
	Secrets         *sealedInputs             `json:"secrets,omitempty"`
	// Token tells the resource that has deployed the release last from others.
	Token string `json:"token,omitempty"`
}

type chartInputs struct {
	Repository string `json:"repository,omitempty"`
	Name       string `json:"name"`
	Version    string `json:"version,omitempty"`
}

type urlInputs struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256,omitempty"`
}

// sealedInputs tell write-only values from others without holding them.
type sealedInputs struct {
	Key []byte `json:"key"` // random
	MAC []byte `json:"mac"` // HMAC-SHA256 of the values
}

// seal is nil for no values.
func seal(secrets map[string]string) *sealedInputs {
	if len(secrets) == 0 {
		return nil
	}
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // It never fails.
	return &sealedInputs{Key: key, MAC: macOf(key, secrets)}
}

func macOf(key []byte, secrets map[string]string) []byte {
	mac := hmac.New(sha256.New, key)
	// Maps of strings are encoded in order of their keys, and never fail.
	_ = json.NewEncoder(mac).Encode(secrets)
	return mac.Sum(nil)
}

// holds reports whether the values are those that were sealed.
func (s *sealedInputs) holds(secrets map[string]string) bool {
	if s == nil {
		return len(secrets) == 0
	}
	return len(secrets) > 0 && hmac.Equal(s.MAC, macOf(s.Key, secrets))
}

// inputs turns the model into what the record keeps, but for write-only values
// and the token.
func (m *releaseModel) inputs(ctx context.Context, diags *diag.Diagnostics) releaseInputs {
	in := releaseInputs{
		CreateNamespace: m.CreateNamespace.ValueBool(),
		Values:          stringList(ctx, m.Values, diags),
		Manifests:       stringList(ctx, m.Manifests, diags),
		SecretsRevision: m.SetWORevision.ValueInt64(),
	}
	if source, ok := m.source(ctx, diags); ok {
		in.Chart = &chartInputs{Repository: source.Repository, Name: source.Name, Version: source.Version}
	}
	for _, u := range elements[manifestURLModel](ctx, m.ManifestURLs, diags) {
		in.ManifestURLs = append(in.ManifestURLs, urlInputs{URL: u.URL.ValueString(), SHA256: u.SHA256.ValueString()})
	}
	if !m.Mesh.IsNull() {
		reading := readMesh(ctx, m.Mesh, path.Root("mesh"), diags)
		in.Mesh = map[string]map[string]any{reading.dialect.name: reading.values}
	}
	return in
}

// recordedInputs are the inputs on record; without any, everything is empty.
func recordedInputs(record *release.Record) (releaseInputs, error) {
	var in releaseInputs
	if record == nil || len(record.Inputs) == 0 {
		return in, nil
	}
	err := json.Unmarshal(record.Inputs, &in)
	return in, err
}

// same compares all but write-only values and tokens.
func (in releaseInputs) same(other releaseInputs) bool {
	in.Secrets, other.Secrets = nil, nil
	in.Token, other.Token = "", ""
	mine, err := json.Marshal(in)
	theirs, err2 := json.Marshal(other)
	return err == nil && err2 == nil && bytes.Equal(mine, theirs)
}

// into fills in the settings of a release of which only the ID is known.
func (in releaseInputs) into(ctx context.Context, m *releaseModel, diags *diag.Diagnostics) {
	m.CreateNamespace = types.BoolValue(in.CreateNamespace)
	m.Values = listOrNull(ctx, in.Values, diags)
	m.Manifests = listOrNull(ctx, in.Manifests, diags)
	if in.SecretsRevision != 0 {
		m.SetWORevision = types.Int64Value(in.SecretsRevision)
	}
	m.Chart = types.ObjectNull(chartTypes)
	if in.Chart != nil {
		m.Chart = objectFrom(ctx, chartTypes, chartModel{textOrNull(in.Chart.Repository), types.StringValue(in.Chart.Name), textOrNull(in.Chart.Version)}, diags)
	}
	m.ManifestURLs = types.ListNull(types.ObjectType{AttrTypes: manifestURLTypes})
	if len(in.ManifestURLs) > 0 {
		urls := make([]manifestURLModel, len(in.ManifestURLs))
		for i, u := range in.ManifestURLs {
			urls[i] = manifestURLModel{types.StringValue(u.URL), textOrNull(u.SHA256)}
		}
		list, d := types.ListValueFrom(ctx, types.ObjectType{AttrTypes: manifestURLTypes}, urls)
		diags.Append(d...)
		m.ManifestURLs = list
	}
	of := types.ObjectType{AttrTypes: meshTypes()}
	m.Mesh = types.ObjectNull(of.AttrTypes)
	if in.Mesh == nil {
		return
	}
	text, err := json.Marshal(in.Mesh)
	if err == nil {
		var raw tftypes.Value
		// A later version of the provider may have dropped a setting.
		options := tfprotov6.UnmarshalOpts{ValueFromJSONOpts: tftypes.ValueFromJSONOpts{IgnoreUndefinedAttributes: true}}
		if raw, err = (tfprotov6.RawState{JSON: text}).UnmarshalWithOpts(of.TerraformType(ctx), options); err == nil {
			if value, valueErr := of.ValueFromTerraform(ctx, raw); valueErr != nil {
				err = valueErr
			} else if object, ok := value.(types.Object); ok {
				m.Mesh = object
			}
		}
	}
	if err != nil {
		problem(diags, "Unable to Read the Mesh of the Release", err)
	}
}

func textOrNull(text string) types.String {
	if text == "" {
		return types.StringNull()
	}
	return types.StringValue(text)
}

// source is where the chart is; it is false for manifests.
func (m *releaseModel) source(ctx context.Context, diags *diag.Diagnostics) (helm.Source, bool) {
	if m.Chart.IsNull() || m.Chart.IsUnknown() {
		return helm.Source{}, false
	}
	var c chartModel
	diags.Append(m.Chart.As(ctx, &c, objectAsOptions)...)
	return helm.Source{Repository: c.Repository.ValueString(), Name: c.Name.ValueString(), Version: c.Version.ValueString()}, true
}

// releaseContent is what a release is made of, read from where it is.
type releaseContent struct {
	chart     *helm.Chart // nil for manifests
	values    map[string]any
	manifests []release.Object
}

// load fetches the chart or the manifests of a model whose inputs are known, and
// fills in what identifies them.
func (r *releaseResource) load(ctx context.Context, m *releaseModel, secrets map[string]string, diags *diag.Diagnostics) (content releaseContent, ok bool) {
	m.AppVersion, m.ChartDigest, m.ManifestSHA256 = types.StringNull(), types.StringNull(), types.StringNull()
	if source, isChart := m.source(ctx, diags); isChart {
		content.chart, content.values = r.loadChart(ctx, m, source, secrets, diags)
		if content.chart != nil {
			m.AppVersion, m.ChartDigest = textOrNull(content.chart.AppVersion()), types.StringValue(content.chart.Digest())
		}
	} else {
		var sum string
		content.manifests, sum = r.loadManifests(ctx, m, diags)
		m.ManifestSHA256 = types.StringValue(sum)
	}
	return content, !diags.HasError()
}

// loadChart is nil, with diagnostics, if there is none.
func (r *releaseResource) loadChart(ctx context.Context, m *releaseModel, source helm.Source, secrets map[string]string, diags *diag.Diagnostics) (*helm.Chart, map[string]any) {
	chart, err := r.session.library.Load(ctx, source)
	if err != nil {
		problemChart(diags, "Unable to Fetch the Chart", err)
		return nil, nil
	}
	values := parsedValues(ctx, m.Values, path.Root("values"), anyValues, diags)
	if diags.HasError() {
		return nil, nil
	}
	values, err = helm.SetStrings(values, secrets)
	if err != nil {
		problemAt(diags, path.Root("set_wo"), "Invalid set_wo", err)
		return nil, nil
	}
	return chart, values
}

// anyValues is for charts of which nothing is known.
func anyValues(map[string]any) error { return nil }

// problemChart attaches errors of fetching a chart to the attribute at fault.
func problemChart(diags *diag.Diagnostics, summary string, err error) {
	at := path.Root("chart")
	var version *helm.UnknownVersionError
	var name *helm.UnknownChartError
	var unreachable *helm.UnreachableError
	var unauthorized *helm.UnauthorizedError
	switch {
	case errors.As(err, &version):
		at = at.AtName("version")
	case errors.As(err, &name):
		at = at.AtName("name")
	case errors.As(err, &unreachable), errors.As(err, &unauthorized):
		at = at.AtName("repository")
	}
	problemAt(diags, at, summary, err)
}

// namedManifest is a manifest and the attribute that it comes from.
type namedManifest struct {
	release.Manifest
	at path.Path
}

// loadManifests reads the objects of all manifests, and returns the SHA-256 over
// them all.
func (r *releaseResource) loadManifests(ctx context.Context, m *releaseModel, diags *diag.Diagnostics) (objects []release.Object, sum string) {
	hash := sha256.New()
	for _, given := range r.source.manifestsOf(ctx, m, diags) {
		// Lengths keep the end of one and the beginning of the next apart.
		fmt.Fprintf(hash, "%d\n%s", len(given.Text), given.Text)
		read, err := release.ParseManifests(given.Manifest)
		if err != nil {
			problemAt(diags, given.at, "Invalid Manifest", err)
		}
		objects = append(objects, read...)
	}
	if !diags.HasError() && len(objects) == 0 {
		diags.AddError("Empty Release", "The manifests hold no object.")
	}
	return objects, hex.EncodeToString(hash.Sum(nil))
}

func (r *releaseResource) manifestsOf(ctx context.Context, m *releaseModel, diags *diag.Diagnostics) (all []namedManifest) {
	for i, text := range stringList(ctx, m.Manifests, diags) {
		all = append(all, namedManifest{manifestAt(i, text), path.Root("manifests").AtListIndex(i)})
	}
	for i, u := range elements[manifestURLModel](ctx, m.ManifestURLs, diags) {
		at := path.Root("manifest_urls").AtListIndex(i)
		manifest, err := r.session.manifests.Download(ctx, u.URL.ValueString(), u.SHA256.ValueString())
		if err != nil {
			problemAt(diags, at, "Unable to Fetch the Manifest", err)
			continue
		}
		all = append(all, namedManifest{manifest, at})
	}
	return all
}

func manifestAt(i int, text string) release.Manifest {
	return release.Manifest{Source: fmt.Sprintf("manifests[%d]", i), Text: text}
}

// desired is what the release is to be. What is on record already is not rendered
// anew: charts with something random in them would make other objects of it.
func (r *releaseResource) desired(ctx context.Context, rel *release.Release, m *releaseModel, content releaseContent, own string, secrets map[string]string, diags *diag.Diagnostics) (release.Desired, error) {
	d := release.Desired{
		Objects:         content.manifests,
		CreateNamespace: m.CreateNamespace.ValueBool(),
		Force:           m.ForceConflicts.ValueBool(),
		TakeOwnership:   m.TakeOwnership.ValueBool(),
		PruneCRDs:       m.PruneCRDs.ValueBool(),
		Wait:            m.Wait.ValueBool(),
		WaitForJobs:     m.WaitForJobs.ValueBool(),
		HideValues:      len(secrets) > 0 || m.HideValues.ValueBool(),
		Origin:          release.Origin{ManifestSHA256: m.ManifestSHA256.ValueString(), AppVersion: m.AppVersion.ValueString()},
	}
	in := m.inputs(ctx, diags)
	in.Token = own
	former, err := recordedInputs(rel.Record())
	if err != nil {
		return d, err
	}
	if former.Secrets.holds(secrets) {
		in.Secrets = former.Secrets
	} else {
		in.Secrets = seal(secrets)
	}
	if d.Inputs, err = json.Marshal(in); err != nil {
		return d, err
	}
	if chart := content.chart; chart != nil {
		d.Origin = release.Origin{Chart: chart.Name(), ChartVersion: chart.Version(), ChartDigest: chart.Digest(), AppVersion: chart.AppVersion()}
	}
	if record := rel.Record(); record != nil && record.Phase == release.PhaseDeployed && record.Origin == d.Origin && former.same(in) && former.Secrets.holds(secrets) {
		d.Restore = true
		return d, nil
	}
	if chart := content.chart; chart != nil {
		if d.Objects, err = rel.Render(ctx, chart, content.values, false); err != nil {
			return d, err
		}
	}
	if !m.Mesh.IsNull() {
		if chosen := meshOf(ctx, m.Mesh, diags); chosen != nil {
			d.Transform, d.TransformHook = injecting(chosen)
		}
	}
	return d, nil
}

// injecting returns what brings objects and hooks into a mesh. Namespaces are
// shared with others, and enrolled by others.
func injecting(m mesh.Mesh) (objects, hooks func(*unstructured.Unstructured) error) {
	objects = func(object *unstructured.Unstructured) error {
		if object.GroupVersionKind() == kube.Namespace.GVK() {
			return nil
		}
		return mesh.Inject(m, object)
	}
	return objects, func(object *unstructured.Unstructured) error { return mesh.InjectHook(m, object) }
}
