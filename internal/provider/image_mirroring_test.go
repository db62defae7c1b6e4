package provider

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// filling is a mirror without Terraform around it.
type filling struct {
	mirrorTest

	resource imageMirrorResource
	state    *imageMirrorModel
}

func newFilling(t *testing.T) *filling {
	t.Helper()
	return &filling{
		mirrorTest: mirrorTest{t, testazure.NewLocal(t), testazure.NewLocal(t)},
		resource:   imageMirrorResource{resourceBase{session: &session{}}},
	}
}

// fill has the mirror made of images of the source, without those that leave.
func (x *filling) fill(images ...string) diag.Diagnostics {
	x.Helper()
	model := &imageMirrorModel{
		Host: types.StringValue(x.target.Host), Registry: types.StringValue(x.target.Host), Method: types.StringValue(methodAuto),
		Parallelism: types.Int64Value(2), Overwrite: types.BoolValue(false), DeleteImages: types.BoolValue(true), Changes: noDrift(),
	}
	var elements []attr.Value
	for _, image := range images {
		elements = append(elements, types.StringValue(x.source.Host+"/"+image))
	}
	model.Images = types.SetValueMust(types.StringType, elements)
	var diags diag.Diagnostics
	x.resource.fill(x.Context(), model, x.state, &diags)
	x.state = model
	return diags
}

// comes is fill for images that all come.
func (x *filling) comes(images ...string) {
	x.Helper()
	if diags := x.fill(images...); len(diags) > 0 {
		x.Errorf("%v: %v", images, diags)
	}
}

// fails is fill with one problem, in these words.
func (x *filling) fails(words string, images ...string) {
	x.Helper()
	if diags := x.fill(images...); len(diags) != 1 || !strings.Contains(diags[0].Detail(), words) {
		x.Errorf("%v: got %v, want %q", images, diags, words)
	}
}

// holds is has, now.
func (x *filling) holds(digests map[string]string) {
	x.Helper()
	if err := x.has(digests)(nil); err != nil {
		x.Error(err)
	}
}

var noSuch = "sha256:" + strings.Repeat("a", 64)

func TestMirroring_deletesWhenAllHaveCome(t *testing.T) {
	t.Parallel()
	x := newFilling(t)
	proxy, first := x.publish(x.source, "proxy", "v1"), x.publish(x.source, "tools", "v1")
	second := x.publish(x.source, "tools", "v1")
	x.comes("proxy:v1@"+proxy, "tools:v1@"+first)

	// A mesh still runs what has not all been replaced.
	x.fails("does not exist", "proxy:v2@"+noSuch, "tools:v1@"+second)
	x.holds(map[string]string{"proxy:v1": proxy, "tools:v1": second, "tools@" + first: first})

	next := x.publish(x.source, "proxy", "v2")
	x.comes("proxy:v2@"+next, "tools:v1@"+second)
	x.holds(map[string]string{"proxy:v2": next, "proxy@" + proxy: "", "tools:v1": second, "tools@" + first: ""})
}

func TestMirroring_oneImageByTwoNames(t *testing.T) {
	t.Parallel()
	x := newFilling(t)
	tools := x.publish(x.source, "linkerd/tools", "v1")
	at := oci.Reference{Registry: x.source.Host, Repository: "copies/tools", Tag: "v1"}
	from := oci.Reference{Registry: x.source.Host, Repository: "linkerd/tools", Tag: "v1"}
	if made := x.resource.session.chartLibrary().Registries().Mirror(t.Context(), []oci.Task{{From: from, To: at}}, oci.MirrorOptions{}); made[0].Err != nil {
		t.Fatal(made[0].Err)
	}
	x.comes("copies/tools:v1@"+tools, "linkerd/tools:v1@"+tools)
	var diags diag.Diagnostics
	for image, place := range x.state.kept(t.Context(), &diags) {
		if want := x.target.Host + "/tools:v1@" + tools; place.String() != want {
			t.Errorf("%s is at %s, want %s", image, place, want)
		}
	}
	if count := len(x.state.Mirrored.Elements()); count != 2 || diags.HasError() {
		t.Errorf("%d images are mirrored: %v", count, diags)
	}
	// It stays with the last of its names.
	x.comes("copies/tools:v1@" + tools)
	x.holds(map[string]string{"tools:v1": tools})
}

func TestMirroring_upstreamHasDroppedIt(t *testing.T) {
	t.Parallel()
	x := newFilling(t)
	tools := x.publish(x.source, "tools", "v1")
	x.comes("tools:v1")
	x.publish(x.source, "tools", "v1")
	if err := errors.Join(x.source.Remove(t.Context(), "tools", tools), x.target.Remove(t.Context(), "tools", "v1")); err != nil {
		t.Fatal(err)
	}
	x.state.Drift = types.ListValueMust(types.StringType, []attr.Value{types.StringValue("tools:v1 is missing")})
	x.fails("write the digest of the one that is wanted", "tools:v1")
	if _, err := x.target.Digest(t.Context(), "tools", "v1"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("there is one: %v", err)
	}
}

func TestPublic(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"ghcr.io": true, "registry.example.com:5000": true, "8.8.8.8": true, "[2001:4860:4860::8888]:443": true,
		"localhost:5000": false, "registry": false, "registry.local": false, "registry.corp.internal:443": false,
		"10.0.0.1:5000": false, "127.0.0.1": false, "[::1]:5000": false, "[fe80::1]": false,
	} {
		if got := public(host); got != want {
			t.Errorf("%s: %t, want %t", host, got, want)
		}
	}
}

// TestImportLogin does not give Docker's logins away.
func TestImportLogin(t *testing.T) {
	docker := t.TempDir()
	t.Setenv("DOCKER_CONFIG", docker)
	// Both are name:password.
	config := `{"auths": {"https://index.docker.io/v1/": {"auth": "bmFtZTpwYXNzd29yZA=="}, "quay.io": {"auth": "bmFtZTpwYXNzd29yZA=="}}}`
	if err := os.WriteFile(filepath.Join(docker, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &session{}
	s.registries.given = helm.LibraryOptions{Registries: []helm.Credential{
		{Host: "docker.io", Username: "robot", Password: "s3cret"}, {Host: "mine.azurecr.io", Username: "token", Password: "s3cret"},
	}}
	if seen, err := s.keychain(t.Context(), "quay.io"); err != nil || seen.Username != "name" {
		t.Fatalf("Docker has %v for quay.io: %v", seen, err)
	}
	for host, want := range map[string]auth.Credential{
		"registry-1.docker.io": {Username: "robot", Password: "s3cret"},
		"mine.azurecr.io":      {Username: "token", Password: "s3cret"},
		"quay.io":              {},
	} {
		if got, err := s.importLogin(t.Context(), host); err != nil || got != want {
			t.Errorf("%s: %v (%v), want %v", host, got.Username, err, want.Username)
		}
	}
}
