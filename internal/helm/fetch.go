package helm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

const (
	// maxIndexBytes and maxChartBytes bound what a repository can make the provider hold in memory. The largest public
	// indexes have some 20 MB; a release record, which holds the chart, has to fit into 1 MB of compressed Secret.
	maxIndexBytes = 64 << 20
	maxChartBytes = 32 << 20

	// suggestions is how many versions or names an error lists.
	suggestions = 5

	// chartLayer is the media type of the chart archive in an OCI artifact.
	chartLayer = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// index is what is needed of a repository's index.yaml.
type index struct {
	Entries map[string][]indexEntry `json:"entries"`
}

type indexEntry struct {
	Version string   `json:"version"`
	URLs    []string `json:"urls"`
	Digest  string   `json:"digest"` // SHA-256 in hex; not every repository gives it
}

// fromRepository downloads a chart archive from a repository with an index.
func (l *Library) fromRepository(ctx context.Context, source Source) ([]byte, error) {
	base := strings.TrimSuffix(source.Repository, "/") + "/"
	data, err := l.get(ctx, source, base+"index.yaml", maxIndexBytes)
	if err != nil {
		return nil, err
	}
	var listing index
	if err := yaml.Unmarshal(data, &listing); err != nil {
		return nil, &UnreachableError{Repository: source.Repository, Err: fmt.Errorf("its index.yaml is not one: %w", err)}
	}
	entry, err := listing.find(source)
	if err != nil {
		return nil, err
	}
	if len(entry.URLs) == 0 {
		return nil, &UnreachableError{
			Repository: source.Repository,
			Err:        fmt.Errorf("its index.yaml has no URL for %s %s", source.Name, source.Version),
		}
	}
	location, err := resolve(base, entry.URLs[0])
	if err != nil {
		return nil, &UnreachableError{Repository: source.Repository, Err: err}
	}
	archive, err := l.get(ctx, source, location, maxChartBytes)
	if err != nil {
		return nil, err
	}
	if want := "sha256:" + strings.TrimPrefix(entry.Digest, "sha256:"); entry.Digest != "" && want != digestOf(archive) {
		return nil, &DigestError{Source: source, Want: want, Got: digestOf(archive)}
	}
	return archive, nil
}

func (i index) find(source Source) (indexEntry, error) {
	entries := i.Entries[source.Name]
	if len(entries) == 0 {
		names := slices.Sorted(maps.Keys(i.Entries))
		return indexEntry{}, &UnknownChartError{
			Repository: source.Repository, Name: source.Name, Charts: names[:min(len(names), 2*suggestions)],
		}
	}
	versions := make([]string, len(entries))
	for n, entry := range entries {
		if entry.Version == source.Version {
			return entry, nil
		}
		versions[n] = entry.Version
	}
	return indexEntry{}, unknownVersion(source, versions)
}

func resolve(base, reference string) (string, error) {
	from, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	to, err := from.Parse(reference)
	if err != nil {
		return "", err
	}
	if to.Scheme != "https" && to.Scheme != from.Scheme {
		return "", fmt.Errorf("its index.yaml leads to %s:// addresses", to.Scheme)
	}
	return to.String(), nil
}

// get reads a URL, with the credentials of the URL's host and of no other.
func (l *Library) get(ctx context.Context, source Source, location string, limit int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, &UnreachableError{Repository: source.Repository, Err: err}
	}
	if credential, ok := l.credentials[request.URL.Host]; ok && credential.Username != "" {
		request.SetBasicAuth(credential.Username, credential.Password)
	}
	response, err := l.client.Do(request)
	if err != nil {
		return nil, &UnreachableError{Repository: source.Repository, Err: err}
	}
	defer response.Body.Close()
	status := fmt.Errorf("GET %s: %s", request.URL.Redacted(), response.Status)
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, &UnauthorizedError{Repository: source.Repository, Host: request.URL.Host, Err: status}
	default:
		return nil, &UnreachableError{Repository: source.Repository, Err: status}
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, &UnreachableError{Repository: source.Repository, Err: err}
	}
	if int64(len(data)) > limit {
		return nil, &UnreachableError{
			Repository: source.Repository,
			Err:        fmt.Errorf("GET %s: more than %d MiB", request.URL.Redacted(), limit>>20),
		}
	}
	return data, nil
}

// fromRegistry downloads a chart archive from an OCI registry.
func (l *Library) fromRegistry(ctx context.Context, source Source) ([]byte, error) {
	host, path, _ := strings.Cut(strings.TrimPrefix(source.Repository, ociScheme), "/")
	repository, err := l.registries.Repository(oci.Reference{
		Registry: host, Repository: strings.TrimPrefix(strings.TrimSuffix(path, "/")+"/"+source.Name, "/"),
	})
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", source, err)
	}
	// A tag cannot hold the + of a version's build metadata; Helm writes _ for it.
	tag := strings.ReplaceAll(source.Version, "+", "_")
	manifestDescriptor, err := repository.Resolve(ctx, tag)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, l.missingTag(ctx, source, repository)
	}
	if err != nil {
		return nil, l.registryError(source, repository, err)
	}
	data, err := l.fetchBlob(ctx, source, repository, manifestDescriptor)
	if err != nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(data, &manifest); err != nil {
		return nil, l.registryError(source, repository, fmt.Errorf("manifest of %s: %w", source, err))
	}
	for _, layer := range manifest.Layers {
		if layer.MediaType != chartLayer {
			continue
		}
		if layer.Size > maxChartBytes {
			return nil, l.registryError(source, repository, fmt.Errorf("the chart has more than %d MiB", maxChartBytes>>20))
		}
		return l.fetchBlob(ctx, source, repository, layer)
	}
	return nil, l.registryError(source, repository, fmt.Errorf("%s is not a Helm chart", source))
}

// fetchBlob reads a manifest or a layer and holds it against its digest.
func (l *Library) fetchBlob(
	ctx context.Context, source Source, repository *remote.Repository, blob ocispec.Descriptor,
) ([]byte, error) {
	reader, err := repository.Fetch(ctx, blob)
	if err != nil {
		return nil, l.registryError(source, repository, err)
	}
	defer reader.Close()
	data, err := io.ReadAll(io.LimitReader(reader, maxChartBytes))
	if err != nil {
		return nil, l.registryError(source, repository, err)
	}
	if got := digestOf(data); got != blob.Digest.String() {
		return nil, &DigestError{Source: source, Want: blob.Digest.String(), Got: got}
	}
	return data, nil
}

// missingTag finds out what there is instead of a tag.
func (l *Library) missingTag(ctx context.Context, source Source, repository *remote.Repository) error {
	var versions []string
	err := repository.Tags(ctx, "", func(tags []string) error {
		for _, tag := range tags {
			versions = append(versions, strings.ReplaceAll(tag, "_", "+"))
		}
		return nil
	})
	response, answered := errors.AsType[*errcode.ErrorResponse](err)
	switch {
	case err == nil && len(versions) > 0:
		return unknownVersion(source, versions)
	case err == nil, answered && response.StatusCode == http.StatusNotFound:
		return &UnknownChartError{Repository: source.Repository, Name: source.Name}
	default:
		return l.registryError(source, repository, err)
	}
}

func (l *Library) registryError(source Source, repository *remote.Repository, err error) error {
	response, answered := errors.AsType[*errcode.ErrorResponse](err)
	refused := errors.Is(err, auth.ErrBasicCredentialNotFound) ||
		answered && (response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden)
	err = oci.WithoutQueries(err)
	if !refused {
		return &UnreachableError{Repository: source.Repository, Err: err}
	}
	// A registry may lead to another, which is then the one that refuses.
	by := oci.AnsweredBy(err, repository.Reference.Host())
	if login := l.registries.LoginError(by); login != nil {
		err = fmt.Errorf("%w; logging in had failed before: %w", err, login)
	}
	if by == repository.Reference.Host() {
		by = repository.Reference.Registry // As the configuration has it: docker.io.
	}
	return &UnauthorizedError{Repository: source.Repository, Host: by, Err: err}
}

// unknownVersion builds the error for a version that does not exist, with those nearest to it.
func unknownVersion(source Source, versions []string) error {
	return &UnknownVersionError{
		Repository: source.Repository, Name: source.Name, Version: source.Version,
		Nearest: nearest(source.Version, versions),
	}
}

// nearest returns the existing versions around the wanted one in the order of semantic versions: the closest below,
// the closest above and so on.
func nearest(wanted string, existing []string) []string {
	want, err := semver.NewVersion(wanted)
	if err != nil {
		return nil
	}
	var below, above []*semver.Version
	for _, text := range existing {
		version, err := semver.NewVersion(text)
		switch {
		case err != nil:
		case version.LessThan(want):
			below = append(below, version)
		default:
			above = append(above, version)
		}
	}
	slices.SortFunc(below, func(a, b *semver.Version) int { return b.Compare(a) })
	slices.SortFunc(above, func(a, b *semver.Version) int { return a.Compare(b) })
	var found []string
	for i := range max(len(below), len(above)) {
		if i < len(below) {
			found = append(found, below[i].Original())
		}
		if i < len(above) {
			found = append(found, above[i].Original())
		}
	}
	return found[:min(len(found), suggestions)]
}
