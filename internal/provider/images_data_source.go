package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/datasourcevalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/acr"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/images"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/install"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/istio"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/linkerd"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

type imagesDataSource struct{ session *session }

var (
	_ datasource.DataSourceWithConfigure        = (*imagesDataSource)(nil)
	_ datasource.DataSourceWithConfigValidators = (*imagesDataSource)(nil)
	_ datasource.DataSourceWithValidateConfig   = (*imagesDataSource)(nil)
)

func newImagesDataSource() datasource.DataSource { return &imagesDataSource{} }

func (d *imagesDataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_images"
}

// resolvesAtOnce is how many images are looked up at the same time: few enough
// for registries that throttle.
const resolvesAtOnce = 8

func (d *imagesDataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	text := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: description}
	}
	optional := func(description string, validators ...validator.String) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, MarkdownDescription: description, Validators: append(validators, stringvalidator.LengthAtLeast(1))}
	}
	flag := func(description string) schema.BoolAttribute {
		return schema.BoolAttribute{Optional: true, MarkdownDescription: description + " Default `false`."}
	}
	values := func(description string) schema.ListAttribute {
		return schema.ListAttribute{Optional: true, ElementType: types.StringType, MarkdownDescription: description}
	}
	version := func(description string) schema.StringAttribute {
		return schema.StringAttribute{Required: true, MarkdownDescription: description, Validators: []validator.String{exactVersion()}}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "The container images that a mesh runs: exactly those of the pods of its charts, rendered with the settings that `aksmesh_linkerd`, `aksmesh_linkerd_extension`, `aksmesh_istio` and `aksmesh_istio_addon` have, " +
			"and those that injectors put into the pods of applications. No cluster is asked, so that a registry can be filled before there is one: by `aksmesh_image_mirror`, with `references`.\n\n" +
			"Images that single pods ask for by annotations of their own are not among them, nor are those of Istio's agent gateways, nor what the values of single gateways (`aksmesh_istio.gateways[*].values`) add.\n\n" +
			"Unless `resolve` is `false`, each image is looked up in its registry for its digest, at each plan and apply. " + registryLogin + ".",
		Attributes: map[string]schema.Attribute{
			"linkerd": schema.SingleNestedAttribute{
				Optional: true, MarkdownDescription: "Linkerd, and its extensions.",
				Attributes: map[string]schema.Attribute{
					"version":    version("Version of the charts, as `aksmesh_linkerd.version` has it: `2026.8.3`."),
					"repository": optional("Where the charts come from, as `aksmesh_linkerd.repository` has it. Default `" + linkerd.EdgeRepository + "`."),
					"registry": optional("Registry and path that Linkerd's own images are taken from instead of `"+linkerd.ImageRegistry+"`. That one only redirects to `ghcr.io/linkerd`, "+
						"which it takes where the other cannot be reached. Not for what the mesh is installed with: that is `registry` of `aksmesh_linkerd`, of a mirror.", imagePlace()),
					"high_availability": flag("Whether it is installed with the charts' `values-ha.yaml`."),
					"cni":               flag("Whether the CNI plugin is installed."),
					"cni_values":        values("Values of the plugin's chart, as `aksmesh_linkerd.cni.values` has them."),
					"values":            values("Values of the control plane's chart, as `aksmesh_linkerd.values` has them."),
					"debug":             flag("Whether the debug container is wanted too, which pods ask for by the annotation `config.linkerd.io/enable-debug-sidecar`."),
					"extensions": schema.MapNestedAttribute{
						Optional:            true,
						MarkdownDescription: "Extensions by their names: `viz`, `multicluster` or `jaeger`.",
						Validators:          []validator.Map{mapvalidator.KeysAre(stringvalidator.OneOf(linkerd.Extensions()...))},
						NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
							"high_availability": flag("Whether it is installed with the chart's `values-ha.yaml`."),
							"values":            values("Values of the chart, as `aksmesh_linkerd_extension.values` has them."),
						}},
					},
				},
			},
			"istio": schema.SingleNestedAttribute{
				Optional: true, MarkdownDescription: "Istio, and its addons.",
				Attributes: map[string]schema.Attribute{
					"version":    version("Version of the charts, as `aksmesh_istio.version` has it: `1.31.0`."),
					"repository": optional("Where the charts come from, as `aksmesh_istio.repository` has it. Default `" + istio.Repository + "`."),
					"hub":        optional("Registry and path that Istio's images are taken from instead of the one in the charts. Not for what the mesh is installed with: that is `hub` of `aksmesh_istio`, of a mirror.", imagePlace()),
					"profile":    optional("Profile, as `aksmesh_istio.profile` has it. Default `"+string(istio.ProfileDefault)+"`.", stringvalidator.OneOf(istio.Profiles()...)),
					"cni":        flag("Whether istio-cni is installed although the profile has none, as by `aksmesh_istio.cni`."),
					"values": schema.SingleNestedAttribute{
						Optional: true, MarkdownDescription: "Values of the charts, as `aksmesh_istio.values` has them.",
						Attributes: map[string]schema.Attribute{
							istio.BaseChart:    values("Values of the `base` chart."),
							istio.IstiodChart:  values("Values of the `istiod` chart."),
							istio.CNIChart:     values("Values of the `cni` chart."),
							istio.ZtunnelChart: values("Values of the `ztunnel` chart."),
							istio.GatewayChart: values("Values of the `gateway` chart."),
						},
					},
					"addons": schema.SetAttribute{
						Optional: true, ElementType: types.StringType,
						MarkdownDescription: "Names of addons, as `aksmesh_istio_addon.name` has them. Their manifests name their images, which `hub` does not change.",
						Validators:          []validator.Set{setvalidator.ValueStringsAre(stringvalidator.OneOf(istio.Addons()...))},
					},
					"addons_source": optional("Where the manifests of addons are, as `aksmesh_istio_addon.source` has it. Default: the tag of `version` in Istio's repository.", addonSource()),
				},
			},
			"resolve": schema.BoolAttribute{
				Optional: true,
				MarkdownDescription: "Whether registries are asked for the digests of the images, which Docker Hub does not count as pulls. `references` are pinned to the digests then, so that a tag that is moved upstream shows in a plan. " +
					"`false` is for plans that must not depend on registries. Default `true`.",
			},
			"platforms": flag("Whether registries are asked for the platforms of the images, too. That reads their manifests, which Docker Hub counts as a pull of each of its images, and so against its limit."),
			"timeouts":  timeouts.Attributes(ctx),
			"references": schema.ListAttribute{
				Computed: true, ElementType: types.StringType,
				MarkdownDescription: "The images, sorted, as `aksmesh_image_mirror.images` takes them: `cr.l5d.io/linkerd/proxy:edge-26.8.3@sha256:…`, without the digest if `resolve` is `false`.",
			},
			"images": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "The images, in the same order.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"reference":  text("The image, as in `references`."),
					"name":       text("Its name with its registry, without tag and digest: `cr.l5d.io/linkerd/proxy`."),
					"tag":        text("Its tag: `edge-26.8.3`; null if it is named by its digest alone."),
					"digest":     text("Digest of the image, of all its platforms together; null if `resolve` is `false` and it is not named by it."),
					"platforms":  schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "Platforms that it is for: `linux/amd64`, `linux/arm64`; null unless `platforms` is `true`."},
					"components": schema.ListAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "Charts and addons that it belongs to: `linkerd-control-plane`, `ztunnel`, `prometheus`."},
					"injected":   schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether an injector puts it into pods."},
					"value": text("What has to name the image's place in a mirror where `registry` and `hub` do not reach: the value of a chart, such as `controllers[0].image.name`, " +
						"or `manifest` for what only the manifest of an addon names; null where they do."),
				}},
			},
		},
	}
}

// imagePlace accepts a registry with a path, without a scheme.
func imagePlace() validator.String {
	return checked{description: "a registry with a path, such as ghcr.io/linkerd", check: func(value string) error {
		_, err := images.ParsePlace(strings.TrimSuffix(value, "/"))
		return err
	}}
}

type imagesModel struct {
	Linkerd    *linkerdImagesModel `tfsdk:"linkerd"`
	Istio      *istioImagesModel   `tfsdk:"istio"`
	Resolve    types.Bool          `tfsdk:"resolve"`
	Platforms  types.Bool          `tfsdk:"platforms"`
	Timeouts   timeouts.Value      `tfsdk:"timeouts"`
	References []string            `tfsdk:"references"`
	Images     []imageModel        `tfsdk:"images"`
}

type linkerdImagesModel struct {
	Version          types.String `tfsdk:"version"`
	Repository       types.String `tfsdk:"repository"`
	Registry         types.String `tfsdk:"registry"`
	HighAvailability types.Bool   `tfsdk:"high_availability"`
	CNI              types.Bool   `tfsdk:"cni"`
	CNIValues        types.List   `tfsdk:"cni_values"`
	Values           types.List   `tfsdk:"values"`
	Debug            types.Bool   `tfsdk:"debug"`
	Extensions       types.Map    `tfsdk:"extensions"`
}

type extensionImagesModel struct {
	HighAvailability types.Bool `tfsdk:"high_availability"`
	Values           types.List `tfsdk:"values"`
}

type istioImagesModel struct {
	Version      types.String `tfsdk:"version"`
	Repository   types.String `tfsdk:"repository"`
	Hub          types.String `tfsdk:"hub"`
	Profile      types.String `tfsdk:"profile"`
	CNI          types.Bool   `tfsdk:"cni"`
	Values       types.Object `tfsdk:"values"`
	Addons       types.Set    `tfsdk:"addons"`
	AddonsSource types.String `tfsdk:"addons_source"`
}

type imageModel struct {
	Reference  string       `tfsdk:"reference"`
	Name       string       `tfsdk:"name"`
	Tag        types.String `tfsdk:"tag"`
	Digest     types.String `tfsdk:"digest"`
	Platforms  []string     `tfsdk:"platforms"`
	Components []string     `tfsdk:"components"`
	Injected   bool         `tfsdk:"injected"`
	Value      types.String `tfsdk:"value"`
}

func (d *imagesDataSource) ConfigValidators(context.Context) []datasource.ConfigValidator {
	return []datasource.ConfigValidator{datasourcevalidator.AtLeastOneOf(path.MatchRoot("linkerd"), path.MatchRoot("istio"))}
}

// ValidateConfig refuses values and extensions that the resources refuse, too.
func (d *imagesDataSource) ValidateConfig(ctx context.Context, req datasource.ValidateConfigRequest, resp *datasource.ValidateConfigResponse) {
	var l, i types.Object
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("linkerd"), &l)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("istio"), &i)...)
	if resp.Diagnostics.HasError() || !fullyKnown(ctx, l, i) {
		return
	}
	var model imagesModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	wanted := model.specification(ctx, &resp.Diagnostics)
	for _, extension := range wanted.Extensions {
		if err := linkerd.CheckExtensionVersion(extension.Name, extension.Version); err != nil {
			problemAt(&resp.Diagnostics, path.Root("linkerd").AtName("extensions"), "No Such Extension in This Version", err)
		}
	}
	if model.Platforms.ValueBool() && !model.Resolve.IsNull() && !model.Resolve.ValueBool() {
		problemAt(&resp.Diagnostics, path.Root("platforms"), "Nobody to Ask", errors.New("registries tell the platforms of images, and resolve is false"))
	}
	if l := model.Linkerd; l != nil && !l.CNIValues.IsNull() && !l.CNI.ValueBool() {
		problemAt(&resp.Diagnostics, path.Root("linkerd").AtName("cni_values"), "No CNI Plugin", errors.New("they are of the chart of the CNI plugin, and cni is not true"))
	}
}

// specification turns the model into the domain's terms.
func (m *imagesModel) specification(ctx context.Context, diags *diag.Diagnostics) images.Specification {
	var wanted images.Specification
	if l := m.Linkerd; l != nil {
		at := path.Root("linkerd")
		repository := cmp.Or(l.Repository.ValueString(), linkerd.EdgeRepository)
		wanted.Linkerd = &linkerd.Specification{
			Namespace: linkerd.DefaultNamespace, Repository: repository, Version: l.Version.ValueString(),
			HighAvailability: l.HighAvailability.ValueBool(), GatewayAPI: linkerd.GatewayAPI{CRDs: linkerd.IgnoreGatewayCRDs},
			Values: parsedValues(ctx, l.Values, at.AtName("values"), linkerd.CheckValues, diags),
		}
		if l.CNI.ValueBool() {
			wanted.Linkerd.CNI = &linkerd.CNI{
				Namespace: linkerd.DefaultCNINamespace,
				Values:    parsedValues(ctx, l.CNIValues, at.AtName("cni_values"), linkerd.CheckCNIValues, diags),
			}
		}
		wanted.LinkerdRegistry, wanted.Debug = l.Registry.ValueString(), l.Debug.ValueBool()
		extensions := map[string]extensionImagesModel{}
		diags.Append(l.Extensions.ElementsAs(ctx, &extensions, false)...)
		for _, name := range slices.Sorted(maps.Keys(extensions)) {
			check := func(values map[string]any) error { return linkerd.CheckExtensionValues(name, values) }
			wanted.Extensions = append(wanted.Extensions, linkerd.ExtensionSpecification{
				Name: name, Namespace: linkerd.ExtensionNamespace(name), LinkerdNamespace: linkerd.DefaultNamespace,
				Repository: repository, Version: l.Version.ValueString(), HighAvailability: extensions[name].HighAvailability.ValueBool(),
				Values: parsedValues(ctx, extensions[name].Values, at.AtName("extensions").AtMapKey(name).AtName("values"), check, diags),
			})
		}
	}
	if i := m.Istio; i != nil {
		wanted.Istio = &istio.Specification{
			Plane:      istio.Plane{Namespace: istio.DefaultNamespace},
			Repository: cmp.Or(i.Repository.ValueString(), istio.Repository), Version: i.Version.ValueString(),
			Profile: istio.Profile(cmp.Or(i.Profile.ValueString(), string(istio.ProfileDefault))), CNI: i.CNI.ValueBool(),
			Hub: strings.TrimSuffix(i.Hub.ValueString(), "/"), Values: istioValues(ctx, i.Values, path.Root("istio").AtName("values"), diags),
		}
		for _, name := range elements[string](ctx, i.Addons, diags) {
			wanted.Addons = append(wanted.Addons, images.Addon{Name: istio.Addon(name), Version: i.Version.ValueString(), Source: i.AddonsSource.ValueString()})
		}
	}
	return wanted
}

func (d *imagesDataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.session = sessionOf(req.ProviderData, &resp.Diagnostics)
}

func (d *imagesDataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var model imagesModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &model)...)
	if resp.Diagnostics.HasError() {
		return
	}
	limit, diags := model.Timeouts.Read(ctx, lookTimeout)
	resp.Diagnostics.Append(diags...)
	wanted := model.specification(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s, which timeouts.read allows", plainDuration(limit)))
	defer cancel()
	found, err := images.Sources{Library: d.session.chartLibrary(), Manifests: d.session.manifests}.Of(ctx, wanted)
	if err != nil {
		problemImages(&resp.Diagnostics, err)
		return
	}
	if model.tell(ctx, d.session, found, &resp.Diagnostics); !resp.Diagnostics.HasError() {
		resp.Diagnostics.Append(resp.State.Set(ctx, &model)...)
	}
}

// tell fills in the images, resolved if that is wanted.
func (m *imagesModel) tell(ctx context.Context, s *session, found []images.Image, diags *diag.Diagnostics) {
	resolved := make([]oci.Resolved, len(found))
	references := make([]oci.Reference, len(found))
	for i, image := range found {
		references[i] = image.Reference
	}
	switch registries := s.chartLibrary().Registries(); {
	case m.Platforms.ValueBool():
		resolved = registries.ResolveAll(ctx, references, resolvesAtOnce)
	case m.Resolve.IsNull(), m.Resolve.ValueBool():
		resolved = registries.Digests(ctx, references, resolvesAtOnce)
	}
	m.References, m.Images = make([]string, len(found)), make([]imageModel, len(found))
	for i, image := range found {
		if err := resolved[i].Err; err != nil {
			problem(diags, "Unable to Resolve Image", err, adviseThrottled, acr.Advice, oci.Advice)
			continue
		}
		reference := image.Reference
		reference.Digest = cmp.Or(reference.Digest, resolved[i].Descriptor.Digest)
		m.References[i] = reference.String()
		m.Images[i] = imageModel{
			Reference: reference.String(), Name: reference.Name(), Tag: textOrNull(reference.Tag), Digest: textOrNull(reference.Digest),
			Platforms: resolved[i].Descriptor.Platforms, Components: image.Components, Injected: image.Injected, Value: textOrNull(image.Value),
		}
	}
}

// adviseThrottled is what a data source can do about a registry that has enough.
func adviseThrottled(err error) string {
	throttled, ok := errors.AsType[*oci.ThrottledError](err)
	if !ok {
		return ""
	}
	return "Log in to " + throttled.Host + ", as registries often let those ask more who do; name another registry that has the images; try again later; or set resolve = false, so that nobody is asked."
}

// problemImages attaches errors that attributes have caused to them.
func problemImages(diags *diag.Diagnostics, err error) {
	const summary = "Unable to Find Images"
	var refused *install.ValuesError
	inputs := inputErrors(err)
	for _, input := range inputs {
		at := path.Root("linkerd").AtName(input.Input)
		if input.Input == linkerd.CNIValues {
			at = path.Root("linkerd").AtName("cni_values")
		}
		if errors.As(input.Err, &refused) {
			for _, extension := range linkerd.Extensions() {
				if linkerd.ExtensionNamespace(extension) == refused.Chart {
					at = path.Root("linkerd").AtName("extensions").AtMapKey(extension).AtName(input.Input)
				}
			}
		}
		problemAt(diags, at, summary, input.Err)
	}
	switch {
	case len(inputs) > 0:
	case errors.As(err, &refused):
		problemAt(diags, path.Root("istio").AtName("values").AtName(refused.Chart), summary, err)
	default:
		problem(diags, summary, err)
	}
}
