package provider

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"
	"oras.land/oras-go/v2/errdef"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

const mirrorAddress = "aksmesh_image_mirror.this"

// mirrorTest is a registry with images, and one that is to have them.
type mirrorTest struct {
	*testing.T

	source, target *testazure.Local
}

// publish makes an image for two platforms and returns its digest.
func (x mirrorTest) publish(at *testazure.Local, name, tag string) string {
	x.Helper()
	digest, err := at.AddImage(x.Context(), name, tag, "linux/amd64", "linux/arm64")
	if err != nil {
		x.Fatal(err)
	}
	return digest
}

// has checks that the mirror's images are what they have to be; the empty digest is
// for those that must not be there.
func (x mirrorTest) has(digests map[string]string) resource.TestCheckFunc {
	x.Helper()
	return func(*terraform.State) error {
		var problems []error
		for image, want := range digests {
			name, reference, byDigest := strings.Cut(image, "@")
			if !byDigest {
				name, reference, _ = strings.Cut(image, ":")
			}
			got, err := x.target.Digest(x.Context(), name, reference)
			switch {
			case want == "" && errors.Is(err, errdef.ErrNotFound):
			case err != nil:
				problems = append(problems, fmt.Errorf("%s: %w", image, err))
			case got != want:
				problems = append(problems, fmt.Errorf("%s is %s, want %q", image, got, want))
			}
		}
		return errors.Join(problems...)
	}
}

// TestAccImageMirror takes a mirror of Linkerd's images through its life.
func TestAccImageMirror(t *testing.T) {
	t.Parallel()
	cluster := plainCluster.Cluster(t)
	x := mirrorTest{t, testazure.NewLocal(t), testazure.NewLocal(t)}
	digests := map[string]string{}
	for _, name := range []string{"controller", "proxy"} {
		for _, tag := range []string{"edge-26.6.3", "edge-26.8.3"} {
			digests[name+":"+tag] = x.publish(x.source, "linkerd/"+name, tag)
		}
	}
	tools := x.publish(x.source, "tools", "v1")
	before, after := x.publish(x.source, "tools", "v2"), x.publish(x.source, "tools", "v2")
	others := x.publish(x.target, "mesh/proxy", "edge-26.8.3") // of somebody else's

	config := func(version, more, body string) string {
		return providerConfig(cluster.Kubeconfig(), fmt.Sprintf(`
		data "aksmesh_images" "this" {
		  platforms = true
		  linkerd = {
		    version    = %q
		    repository = %q
		    registry   = "%[3]s/linkerd"
		  }
		}
		resource "aksmesh_image_mirror" "this" {
		  host   = %[4]q
		  prefix = "mesh"
		  images = concat(data.aksmesh_images.this.references, [%[5]s])
		  %[6]s
		}`, version, cluster.Charts().Repository, x.source.Host, x.target.Host, more, body))
	}
	from := x.source.Host + "/linkerd/"
	plans := func(action plancheck.ResourceActionType, changes ...string) resource.ConfigPlanChecks {
		return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
			plancheck.ExpectResourceAction(mirrorAddress, action),
			plancheck.ExpectKnownValue(mirrorAddress, tfjsonpath.New("changes"), texts(changes...)),
			plancheck.ExpectKnownValue(mirrorAddress, tfjsonpath.New("registry"), knownvalue.StringExact(x.target.Host+"/mesh")),
		}}
	}
	pinned := func(image string) string { return from + image + "@" + digests[image] }
	tool, moving := fmt.Sprintf("%q", x.source.Host+"/tools:v1"), x.source.Host+"/tools:v2@"
	const missing = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: testProviders,
		CheckDestroy: x.has(map[string]string{
			"mesh/proxy@" + digests["proxy:edge-26.6.3"]: "", "mesh/controller@" + digests["controller:edge-26.6.3"]: "", "mesh/tools:v1": tools, // It was let go before.
		}),
		Steps: []resource.TestStep{
			{
				// What has come stays when not all has, and is no replacement's to take away.
				Config:      config(linkerdOld, tool+fmt.Sprintf(", %q", x.source.Host+"/tools:none@"+missing), "delete_images = true"),
				ExpectError: regexp.MustCompile(`(?s)mesh/tools:none\s+of.*does\s+not\s+exist`),
			},
			{
				PreConfig: func() {
					if err := x.has(map[string]string{"mesh/controller:edge-26.6.3": digests["controller:edge-26.6.3"], "mesh/tools:v1": tools})(nil); err != nil {
						t.Error(err)
					}
				},
				Config: config(linkerdOld, tool, ""),
				ConfigPlanChecks: plans(plancheck.ResourceActionCreate,
					"+ mesh/controller:edge-26.6.3 from "+pinned("controller:edge-26.6.3"), "+ mesh/proxy:edge-26.6.3 from "+pinned("proxy:edge-26.6.3"), "+ mesh/tools:v1 from "+x.source.Host+"/tools:v1"),
				ConfigStateChecks: []statecheck.StateCheck{
					statecheck.ExpectKnownValue(mirrorAddress, tfjsonpath.New("mirrored"), knownvalue.MapExact(map[string]knownvalue.Check{
						pinned("controller:edge-26.6.3"): knownvalue.StringExact(x.target.Host + "/mesh/controller:edge-26.6.3@" + digests["controller:edge-26.6.3"]),
						pinned("proxy:edge-26.6.3"):      knownvalue.StringExact(x.target.Host + "/mesh/proxy:edge-26.6.3@" + digests["proxy:edge-26.6.3"]),
						x.source.Host + "/tools:v1":      knownvalue.StringExact(x.target.Host + "/mesh/tools:v1@" + tools),
					})),
					statecheck.ExpectKnownValue("data.aksmesh_images.this", tfjsonpath.New("images").AtSliceIndex(0).AtMapKey("platforms"), texts("linux/amd64", "linux/arm64")),
				},
				Check: x.has(map[string]string{"mesh/controller:edge-26.6.3": digests["controller:edge-26.6.3"], "mesh/proxy:edge-26.6.3": digests["proxy:edge-26.6.3"], "mesh/tools:v1": tools}),
			},
			{
				ResourceName: mirrorAddress, ImportState: true, ImportStateId: x.target.Host + "/mesh", ImportStateVerify: true,
				ImportStateVerifyIgnore: []string{"images", "mirrored", "changes"},
			},
			{
				// A tag that moves upstream is none of the mirror's business, one that moves
				// here is.
				PreConfig: func() {
					x.publish(x.source, "tools", "v1")
					x.publish(x.target, "mesh/proxy", "edge-26.6.3")
					if err := x.target.Remove(t.Context(), "mesh/controller", "edge-26.6.3"); err != nil {
						t.Fatal(err)
					}
				},
				Config: config(linkerdOld, tool, ""),
				ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
					plancheck.ExpectResourceAction(mirrorAddress, plancheck.ResourceActionUpdate),
					planLines{mirrorAddress, "changes", []string{`^~ mesh/controller:edge-26\.6\.3 is missing$`, `^~ mesh/proxy:edge-26\.6\.3 leads to sha256:\w+ instead of ` + digests["proxy:edge-26.6.3"] + `$`}},
				}},
				Check: resource.ComposeTestCheckFunc(
					x.has(map[string]string{"mesh/controller:edge-26.6.3": digests["controller:edge-26.6.3"], "mesh/proxy:edge-26.6.3": digests["proxy:edge-26.6.3"], "mesh/tools:v1": tools}),
					resource.TestCheckResourceAttr(mirrorAddress, "drift.#", "0"),
				),
			},
			{
				// What can be done is done, and the rest is named.
				Config: config(linkerdNew, fmt.Sprintf("%q", x.source.Host+"/linkerd/debug:none@"+missing), ""),
				ExpectError: regexp.MustCompile(`(?s)mesh/debug:none\s+of.*does\s+not\s+exist.*mesh/proxy:edge-26\.8\.3\s+of.*is\s+there\s+already\s+and\s+is\s+another:\s+` +
					others + `\s+instead\s+of\s+` + digests["proxy:edge-26.8.3"] + `.*overwrite`),
			},
			{
				Config: config(linkerdNew, fmt.Sprintf("%q", moving+before), "overwrite = true\ndelete_images = true"),
				ConfigPlanChecks: plans(plancheck.ResourceActionUpdate,
					"+ mesh/proxy:edge-26.8.3 from "+pinned("proxy:edge-26.8.3"), "+ mesh/tools:v2 from "+moving+before),
				Check: x.has(map[string]string{
					"mesh/controller:edge-26.8.3": digests["controller:edge-26.8.3"], "mesh/proxy:edge-26.8.3": digests["proxy:edge-26.8.3"],
					"mesh/proxy:edge-26.6.3": digests["proxy:edge-26.6.3"], // It was let go before images were to be deleted.
				}),
			},
			{
				// A tag of the mirror's moves with its image, and what is let go is deleted.
				Config:           config(linkerdOld, fmt.Sprintf("%q", moving+after), "delete_images = true"),
				ConfigPlanChecks: plans(plancheck.ResourceActionUpdate, "+ mesh/controller:edge-26.6.3 from "+pinned("controller:edge-26.6.3"), "+ mesh/proxy:edge-26.6.3 from "+pinned("proxy:edge-26.6.3"), "+ mesh/tools:v2 from "+moving+after, "- mesh/controller:edge-26.8.3", "- mesh/proxy:edge-26.8.3", "- mesh/tools@"+before),
				Check: x.has(map[string]string{
					"mesh/controller:edge-26.6.3":                          digests["controller:edge-26.6.3"],
					"mesh/controller@" + digests["controller:edge-26.8.3"]: "", "mesh/proxy@" + digests["proxy:edge-26.8.3"]: "",
					"mesh/tools:v2": after, "mesh/tools@" + before: "",
				}),
			},
		},
	})
}

// TestAccImageMirror_azure has a registry of Azure's fetch images, and get those
// that Azure does not.
func TestAccImageMirror_azure(t *testing.T) {
	t.Parallel()
	azure := testazure.New(t)
	registry, err := azure.AddRegistry(testazure.RegistryOptions{Name: "Mirror"})
	if err != nil {
		t.Fatal(err)
	}
	upstream := azure.Source("ghcr.io")
	proxy, err := upstream.AddImage(t.Context(), "linkerd/proxy", "edge-26.8.3", "linux/amd64", "linux/arm64")
	if err != nil {
		t.Fatal(err)
	}
	local := testazure.NewLocal(t)
	tools, err := local.AddImage(t.Context(), "tools", "v1")
	if err != nil {
		t.Fatal(err)
	}
	upstream.Protect("robot", "s3cret") // Docker has no login for it.
	other, err := azure.AddRegistry(testazure.RegistryOptions{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := other.AddImage(t.Context(), "team/agent", "v1")
	if err != nil {
		t.Fatal(err)
	}
	config := func(method string) string {
		return fmt.Sprintf(`
		provider "aksmesh" {
		  aks  = {}
		  helm = { registries = [{ host = "ghcr.io", username = "robot", password = "s3cret" }] }
		}
		resource "aksmesh_image_mirror" "this" {
		  acr_id = %q
		  prefix = "linkerd"
		  method = %q
		  images = ["ghcr.io/linkerd/proxy:edge-26.8.3", "other.azurecr.io/team/agent:v1", "%s/tools:v1"]
		}`, registry.ID(), method, local.Host)
	}
	w := newWorkspace(t, config("auto"), environ(azure)...)
	if got := w.succeed("plan", "-no-color"); !strings.Contains(got.output, `"+ linkerd/proxy:edge-26.8.3 from ghcr.io/linkerd/proxy:edge-26.8.3"`) || !strings.Contains(got.output, "mirror.azurecr.io/linkerd") {
		t.Errorf("the plan does not say what will be where:\n%s", got.output)
	}

	// What the plan has promised, the apply does not take back when Azure refuses.
	w.succeed("plan", "-out=planned")
	registry.Forbid("Microsoft.ContainerRegistry/registries/read")
	if got := w.run("apply", "-no-color", "planned"); got.code == 0 || !strings.Contains(got.output, "AuthorizationFailed") || strings.Contains(got.output, "inconsistent") {
		t.Errorf("exit code %d, want Azure's refusal:\n%s", got.code, got.output)
	}
	registry.Permit("Microsoft.ContainerRegistry/registries/read")
	w.apply()
	there := func(name, tag, want string) {
		t.Helper()
		if got, err := registry.Digest(t.Context(), name, tag); err != nil || got != want {
			t.Errorf("%s:%s is %s (%v), want %s", name, tag, got, err, want)
		}
	}
	there("linkerd/proxy", "edge-26.8.3", proxy)
	there("linkerd/tools", "v1", tools)
	there("linkerd/agent", "v1", agent)
	w.expectNoChanges()

	// A cluster that is replaced takes away neither the registry nor who logs in there.
	cluster, err := azure.AddCluster(testazure.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.write(strings.Replace(config("auto"), "aks = {}", "aks = { id = terraform_data.cluster.output }", 1) + fmt.Sprintf(`
	resource "terraform_data" "cluster" { input = %[1]q }
	data "aksmesh_cluster" "other" { id = %[1]q }
	output "other" { value = data.aksmesh_cluster.other.source }`, cluster.ID()))
	if got := w.succeed("apply", "-auto-approve", "-no-color"); !strings.Contains(got.output, "1 added, 0 changed, 0 destroyed") || !strings.Contains(got.output, `other = "arm"`) {
		t.Errorf("the cluster alone was to be made, beside what is known:\n%s", got.output)
	}
	w.write(config("auto"))
	w.apply()

	// Terraform's own import finds what is there, and has none of it sent again.
	w.succeed("state", "rm", mirrorAddress)
	w.succeed("import", "-no-color", mirrorAddress, "mirror.azurecr.io/linkerd")
	w.apply()
	w.expectNoChanges()
	imported := map[string]string{}
	for _, got := range registry.Imports() {
		imported[got.Source] += "once" + got.Error
	}
	if want := (map[string]string{"ghcr.io/linkerd/proxy@" + proxy: "once", "other.azurecr.io/team/agent@" + agent: "once"}); !maps.Equal(imported, want) {
		t.Errorf("imports %v, want %v", imported, want)
	}

	// What somebody deletes is imported again, and copied where that is not allowed.
	if err := registry.Remove(t.Context(), "linkerd/proxy", "edge-26.8.3"); err != nil {
		t.Fatal(err)
	}
	registry.Forbid("Microsoft.ContainerRegistry/registries/importImage/action")
	warned := func(command string, words ...string) {
		t.Helper()
		got := w.succeed(command, "-auto-approve", "-json").diagnostics("warning")
		detail := got[len(got)-1].Detail // The first is about the build of the provider.
		for _, text := range words {
			if !strings.Contains(detail, text) {
				t.Errorf("%s warns %q, want %q", command, detail, text)
			}
		}
	}
	warned("apply", "linkerd/proxy:edge-26.8.3 went through this machine", "Data Importer and Data Reader")
	there("linkerd/proxy", "edge-26.8.3", proxy)

	w.write(config("import"))
	warned("destroy", "3 images stay in mirror.azurecr.io/linkerd")
	there("linkerd/proxy", "edge-26.8.3", proxy)
	if strangers := azure.Strangers(); len(strangers) > 0 {
		t.Errorf("strangers were asked: %v", strangers)
	}
}

// TestAccImageMirror_private fills a registry that lets nobody in from here, and
// says in the log what comes, without a word of what opens anything.
func TestAccImageMirror_private(t *testing.T) {
	t.Parallel()
	azure := testazure.New(t)
	registry, err := azure.AddRegistry(testazure.RegistryOptions{Name: "private", Properties: map[string]any{"publicNetworkAccess": "Disabled"}})
	if err != nil {
		t.Fatal(err)
	}
	upstream, reachable := azure.Source("ghcr.io"), testazure.NewLocal(t)
	proxy, err := upstream.AddImage(t.Context(), "linkerd/proxy", "edge-26.8.3", "linux/amd64", "linux/arm64")
	if err != nil {
		t.Fatal(err)
	}
	upstream.Protect("robot", "s3cret")
	log := filepath.Join(t.TempDir(), "log")
	w := newWorkspace(t, fmt.Sprintf(`
	provider "aksmesh" {
	  aks  = {}
	  helm = { registries = [{ host = "ghcr.io", username = "robot", password = "s3cret" }] }
	}
	locals { images = ["ghcr.io/linkerd/proxy:edge-26.8.3"] }
	resource "aksmesh_image_mirror" "this" {
	  acr_id = %q
	  images = local.images
	}
	resource "aksmesh_image_mirror" "copy" {
	  host   = %q
	  images = local.images
	}`, registry.ID(), reachable.Host), append(environ(azure), "TF_LOG_PROVIDER=INFO", "TF_LOG_PATH="+log)...)
	warned := func(got outcome, summary string) {
		t.Helper()
		if !slices.ContainsFunc(got.diagnostics("warning"), func(d diagnostic) bool {
			return d.Summary == summary && strings.Contains(d.Detail, "private.azurecr.io") && strings.Contains(d.Detail, "network access is disabled")
		}) {
			t.Errorf("want the warning %q:\n%s", summary, got.output)
		}
	}
	warned(w.succeed("apply", "-auto-approve", "-json"), "Images Not Verified")
	if got, err := registry.Digest(t.Context(), "proxy", "edge-26.8.3"); err != nil || got != proxy {
		t.Errorf("Azure has %s (%v), want %s", got, err, proxy)
	}
	warned(w.succeed("plan", "-detailed-exitcode", "-json"), "Images Not Looked At")

	written, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	copied := "image=" + reachable.Host + "/proxy:edge-26.8.3 "
	for _, words := range [][]string{
		{"Azure imports an image: ", "from=ghcr.io/linkerd/proxy@" + proxy, "image=private.azurecr.io/proxy:edge-26.8.3 "},
		{" image is in its place: ", "digest=" + proxy, "image=private.azurecr.io/proxy:edge-26.8.3 ", "imported=true"},
		{"part of an image is in its place: ", "media_type=\"application/vnd.oci.image.layer", "bytes=", copied},
		{" image is in its place: ", "digest=" + proxy, "imported=false", copied},
	} {
		if !slices.ContainsFunc(strings.Split(string(written), "\n"), func(line string) bool {
			return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
		}) {
			t.Errorf("no line of the log says %q:\n%s", words, written)
		}
	}
	if bytes.Contains(written, []byte("s3cret")) {
		t.Error("the log has the password")
	}
}

func TestImageMirror_invalid(t *testing.T) {
	t.Parallel()
	const id = "/subscriptions/0/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/mirror"
	expectInvalid(t, "aksmesh_image_mirror", map[string]invalidInput{
		`images = ["a/b:v1"]`: {"acr_id", "host"},
		`images = ["a/b:v1"]` + "\nhost = \"example.com\"\nacr_id = \"" + id + `"`:                         {"acr_id", "host"},
		`images = []` + "\nhost = \"example.com\"":                                                         {"images", "at least 1"},
		`images = ["prom/prometheus"]` + "\nhost = \"example.com\"":                                        {"images", "latest is not the same image every day"},
		`images = ["prom/Prometheus:v1"]` + "\nhost = \"example.com\"":                                     {"images", "not the reference of an image"},
		`images = ["prom/prometheus:v3", "quay.io/prometheus/prometheus:v3"]` + "\nhost = \"example.com\"": {"images", "docker.io/prom/prometheus:v3"},
		`images = ["a/b:v1"]` + "\nhost = \"https://example.com\"":                                         {"host", "the host of a registry"},
		`images = ["a/b:v1"]` + "\nhost = \"example.com\"\nprefix = \"Linkerd\"":                           {"prefix", "lower-case"},
		`images = ["a/b:v1"]` + "\nhost = \"example.com\"\nmethod = \"import\"":                            {"method", "acr_id has to name"},
		`images = ["a/b:v1"]` + "\nhost = \"example.com\"\nparallelism = 0":                                {"parallelism", "between 1 and 32"},
		`images = ["a/b:v1"]` + "\nacr_id = \"mirror\"":                                                    {"acr_id", "resource ID of"},
	})
}
