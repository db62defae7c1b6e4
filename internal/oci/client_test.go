package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// guarded has a registry ask for me:hunter2.
func guarded(s *store) {
	s.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
		if user, password, _ := request.BasicAuth(); user == "me" && password == "hunter2" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

func TestResolveTellsPlatforms(t *testing.T) {
	t.Parallel()
	store, client := newStore(t), impatient(Options{})
	digest := store.publish(t, "proxy", "2.0", "proxy", arm64, armV7, amd64)
	found, err := client.Resolve(t.Context(), store.at("proxy", "2.0"))
	if err != nil || found.Digest != digest || found.MediaType != ocispec.MediaTypeImageIndex || found.Size == 0 ||
		!slices.Equal(found.Platforms, []string{"linux/amd64", "linux/arm/v7", "linux/arm64"}) {
		t.Errorf("of an index: %+v (%v)", found, err)
	}

	repository, err := client.Repository(store.at("proxy", "2.0"))
	if err != nil {
		t.Fatal(err)
	}
	children, err := content.Successors(t.Context(), repository, ocispec.Descriptor{
		MediaType: found.MediaType, Digest: content.NewDescriptorFromBytes("", nil).Digest, Size: 0,
	})
	if err == nil {
		t.Errorf("an empty index has %v", children)
	}
	index, err := repository.Resolve(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	if children, err = content.Successors(t.Context(), repository, index); err != nil || len(children) != 4 {
		t.Fatalf("the index has %v (%v)", children, err)
	}
	single := Reference{Registry: store.host, Repository: "proxy", Digest: children[1].Digest.String()}
	if found, err = client.Resolve(t.Context(), single); err != nil || !slices.Equal(found.Platforms, []string{"linux/arm/v7"}) {
		t.Errorf("of one manifest: %+v (%v)", found, err)
	}

	config := content.NewDescriptorFromBytes("application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"mesh"}`))
	if err := repository.Push(t.Context(), config, bytes.NewReader([]byte(`{"name":"mesh"}`))); err != nil {
		t.Fatal(err)
	}
	chart, err := oras.PackManifest(t.Context(), repository, oras.PackManifestVersion1_1, "", oras.PackManifestOptions{
		ConfigDescriptor: &config,
	})
	if err != nil {
		t.Fatal(err)
	}
	single.Digest = chart.Digest.String()
	if found, err = client.Resolve(t.Context(), single); err != nil || found.Platforms != nil {
		t.Errorf("of a chart: %+v (%v)", found, err)
	}
}

func TestResolveAllKeepsTheOrder(t *testing.T) {
	t.Parallel()
	store, client := newStore(t), impatient(Options{})
	var references []Reference
	var digests []string
	for i := range 6 {
		name := fmt.Sprintf("image%d", i)
		references = append(references, store.at(name, "1"), store.at(name, "none"))
		digests = append(digests, store.publish(t, name, "1", name, amd64), "")
	}
	digested := client.Digests(t.Context(), references, 2)
	for i, answer := range client.ResolveAll(t.Context(), references, 2) {
		if answer.Descriptor.Digest != digests[i] || digested[i].Descriptor.Digest != digests[i] ||
			isA[*UnknownError](answer.Err) != (digests[i] == "") || isA[*UnknownError](digested[i].Err) != (digests[i] == "") {
			t.Errorf("%s: %+v and %+v", references[i], answer, digested[i])
		}
	}
}

func TestDeleteTakesImagesAwayOnce(t *testing.T) {
	t.Parallel()
	store, client := newStore(t), impatient(Options{})
	image := store.at("proxy", "1")
	image.Digest = store.publish(t, "proxy", "1", "proxy", amd64)
	for range 2 {
		if err := client.Delete(t.Context(), image); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Resolve(t.Context(), image); !isA[*UnknownError](err) {
		t.Errorf("got %v", err)
	}
	image.Digest = store.publish(t, "proxy", "1", "proxy", amd64)
	store.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
		if request.Method == http.MethodDelete {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
		return request.Method == http.MethodDelete
	})
	if err := client.Delete(t.Context(), image); err == nil || !isA[*AnswerError](err) || !strings.Contains(err.Error(), "405") {
		t.Errorf("got %v", err)
	}
}

func TestKeychainsAreAskedInTurn(t *testing.T) {
	t.Parallel()
	broken := func(context.Context, string) (auth.Credential, error) {
		return auth.EmptyCredential, errors.New("nobody is logged in")
	}
	known := func(password string) Keychain {
		return func(context.Context, string) (auth.Credential, error) {
			return auth.Credential{Username: "me", Password: password}, nil
		}
	}
	store := newStore(t)
	image := store.at("proxy", "1")
	store.publish(t, "proxy", "1", "proxy", amd64)
	if _, err := impatient(Options{Keychains: []Keychain{broken}}).Resolve(t.Context(), image); err != nil {
		t.Errorf("of a registry that lets anybody read: %v", err)
	}
	guarded(store)
	ignorant := Static(map[string]auth.Credential{"docker.io": {Username: "me", Password: "hunter2"}})
	for title, test := range map[string]struct {
		keychains []Keychain
		says      string
	}{
		"the first that knows": {keychains: []Keychain{broken, ignorant, known("hunter2"), known("wrong")}},
		"none":                 {says: "refused access"},
		"a wrong one":          {keychains: []Keychain{known("*******")}, says: "refused access"},
		"a broken one":         {keychains: []Keychain{ignorant, broken}, says: "logging in had failed before: nobody is logged in"},
	} {
		_, err := impatient(Options{Keychains: test.keychains}).Resolve(t.Context(), image)
		if test.says == "" && err != nil {
			t.Errorf("%s: %v", title, err)
		}
		if test.says != "" && (!isA[*UnauthorizedError](err) || !strings.Contains(err.Error(), test.says) ||
			strings.Contains(err.Error(), "*******") || !strings.Contains(Advice(err), "docker login")) {
			t.Errorf("%s: %v; %s", title, err, Advice(err))
		}
	}
	keptOut := func(context.Context, string) (auth.Credential, error) {
		return auth.EmptyCredential, errors.New("client with IP '192.0.2.7' is not allowed access. Refer https://aka.ms/acr/firewall to grant access")
	}
	_, err := impatient(Options{Keychains: []Keychain{keptOut}}).Resolve(t.Context(), image)
	if unreachable, ok := errors.AsType[*UnreachableError](err); !ok || !unreachable.Firewall {
		t.Errorf("of a registry that lets nobody log in: %v", err)
	}
	if credential, err := ignorant(t.Context(), "registry-1.docker.io"); err != nil || credential.Password != "hunter2" {
		t.Errorf("for Docker Hub: %v", err)
	}
}

func TestDockerConfigIsReadWithItsHelpers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	keychain := DockerConfig()
	if credential, err := keychain(t.Context(), "ghcr.io"); err != nil || credential != auth.EmptyCredential {
		t.Errorf("without a file: %v", err)
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("docker-credential-mine", "#!/bin/sh\nread host\n"+
		`[ "$1 $host" = "get example.azurecr.io" ] && echo '{"Username":"<token>","Secret":"refresh"}' && exit`+"\n"+
		"echo credentials not found in native keychain; exit 1\n", 0o700)
	write("config.json", `{
		"auths": {"https://index.docker.io/v1/": {"auth": "bWU6aHVudGVyMg=="}, "quay.io": {"identitytoken": "identity"}},
		"credHelpers": {"example.azurecr.io": "mine", "other.azurecr.io": "mine"}
	}`, 0o600)
	for host, want := range map[string]auth.Credential{
		"registry-1.docker.io": {Username: "me", Password: "hunter2"},
		"quay.io":              {RefreshToken: "identity"},
		"example.azurecr.io":   {RefreshToken: "refresh"},
		"other.azurecr.io":     {},
		"ghcr.io":              {},
	} {
		if got, err := keychain(t.Context(), host); err != nil || got != want {
			t.Errorf("%s: %+v (%v), want %+v", host, got, err, want)
		}
	}
	write("config.json", `{"auths": {"ghcr.io": {"auth": "bWU6aHVudGVyMg"`, 0o600)
	if _, err := keychain(t.Context(), "ghcr.io"); err == nil || !strings.Contains(err.Error(), "configuration of Docker") {
		t.Errorf("of a file that is cut off: %v", err)
	}
}

func TestAnswersAreTakenForWhatTheyAre(t *testing.T) {
	t.Parallel()
	const page = "<html>"
	digest := content.NewDescriptorFromBytes("", []byte(page)).Digest.String()
	isUnreachable, isAnswer, isDigest := isA[*UnreachableError], isA[*AnswerError], isA[*DigestError]
	manifest := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Docker-Content-Digest", digest)
			w.Header().Set("Content-Length", strconv.Itoa(len(text)))
			_, _ = io.WriteString(w, text)
		}
	}
	status := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	for title, test := range map[string]struct {
		answer http.HandlerFunc
		is     func(error) bool
		says   string
	}{
		"wrong request":        {status(http.StatusBadRequest), isAnswer, "400"},
		"unknown method":       {status(http.StatusMethodNotAllowed), isAnswer, "does not do as asked"},
		"too large":            {status(http.StatusRequestEntityTooLarge), isAnswer, "413"},
		"unknown feature":      {status(http.StatusNotImplemented), isAnswer, "501"},
		"out of order":         {status(http.StatusInternalServerError), isUnreachable, "500"},
		"page of a proxy":      {manifest(page), isAnswer, "cannot be read"},
		"another's manifest":   {manifest("{}"), isDigest, "is not what it says"},
		"connection that ends": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, isUnreachable, "cannot be reached"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			store.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
				test.answer(w, request)
				return true
			})
			image := Reference{Registry: store.host, Repository: "proxy", Digest: digest}
			if _, err := impatient(Options{}).Resolve(t.Context(), image); !test.is(err) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %T: %v", err, err)
			}
		})
	}
}

func TestPausesAreThoseThatRegistriesAskFor(t *testing.T) {
	t.Parallel()
	policy := New(Options{}).policy
	for title, test := range map[string]struct {
		status  int
		after   string
		err     error
		wait    bool
		exactly time.Duration
	}{
		"throttled for seven seconds": {status: http.StatusTooManyRequests, after: "7", wait: true, exactly: 7 * time.Second},
		"out of order for seven":      {status: http.StatusServiceUnavailable, after: "7", wait: true, exactly: 7 * time.Second},
		"out of order until long ago": {status: http.StatusServiceUnavailable, after: "Wed, 21 Oct 2015 07:28:00 GMT", wait: true},
		"out of order for a century":  {status: http.StatusServiceUnavailable, after: "Wed, 21 Oct 2115 07:28:00 GMT"},
		"throttled for hours":         {status: http.StatusTooManyRequests, after: "21600"},
		"throttled":                   {status: http.StatusTooManyRequests, wait: true},
		"failing":                     {status: http.StatusBadGateway, wait: true},
		"not there":                   {status: http.StatusNotFound},
		"there":                       {status: http.StatusOK},
		"enough of it":                {err: context.DeadlineExceeded},
		"unknown name":                {err: errors.New("no such host")},
		"broken connection":           {err: io.ErrUnexpectedEOF, wait: true},
	} {
		response := &http.Response{StatusCode: test.status, Header: http.Header{"Retry-After": {test.after}}, Body: http.NoBody}
		if test.err != nil {
			response = nil
		}
		wait, err := policy.Retry(0, response, test.err)
		if err != nil || (wait >= 0) != test.wait || test.exactly != 0 && wait != test.exactly {
			t.Errorf("%s: %v (%v)", title, wait, err)
		}
	}
}
