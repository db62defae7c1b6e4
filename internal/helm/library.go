// Package helm installs Helm charts: it fetches and caches them, renders them, and installs, upgrades, repairs and
// uninstalls releases. What the charts hold is none of its business.
//
// It reads and writes nothing of the Helm command line's: no HELM_* variables, no ~/.config/helm, no output on
// stdout or stderr.
package helm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

// fetchTimeout is how long the fetching of a chart may take, retries included.
const fetchTimeout = 3 * time.Minute

// Credential is access to one chart repository or registry.
type Credential struct {
	Host      string // as in the URL, with the port if it has one
	Username  string
	Password  string
	PlainHTTP bool // the registry does not speak TLS; always so on loopback addresses
}

// LibraryOptions are settings of a Library.
type LibraryOptions struct {
	// CacheDir is where fetched charts are kept, aksmesh/charts in the user's cache directory if "".
	CacheDir   string
	Registries []Credential
	// Keychain is asked for OCI registries that are not among Registries; nil for none. A registry is asked without
	// a credential when it fails.
	Keychain oci.Keychain
}

// Library fetches charts, each once, and keeps them in memory and on disk. It may be used concurrently.
type Library struct {
	cacheDir    string
	credentials map[string]Credential
	client      *http.Client
	registries  *oci.Client
	given       oci.Keychain // of credentials alone

	mu    sync.Mutex
	loads map[Source]*load
}

// load is the fetching of one chart, shared by everyone who wants it.
type load struct {
	done    chan struct{}
	waiting int // for how many: nobody waiting ends it
	cancel  context.CancelFunc
	chart   *Chart
	err     error
}

// NewLibrary prepares a library. It touches neither disk nor network.
func NewLibrary(options LibraryOptions) *Library {
	credentials := make(map[string]Credential, len(options.Registries))
	logins := make(map[string]auth.Credential, len(options.Registries))
	var plain []string
	for _, credential := range options.Registries {
		credentials[credential.Host] = credential
		logins[credential.Host] = auth.Credential{Username: credential.Username, Password: credential.Password}
		if credential.PlainHTTP {
			plain = append(plain, credential.Host)
		}
	}
	given := oci.Static(logins)
	keychains := []oci.Keychain{given}
	if options.Keychain != nil {
		keychains = append(keychains, options.Keychain)
	}
	return &Library{
		cacheDir:    options.CacheDir,
		credentials: credentials,
		given:       given,
		// Throttled and failing requests are repeated with growing pauses: public chart registries throttle.
		client:     retry.NewClient(),
		registries: oci.New(oci.Options{Keychains: keychains, PlainHTTP: plain}),
		loads:      map[Source]*load{},
	}
}

// Source says where a chart is.
type Source struct {
	// Repository is the URL of a chart repository ("https://…", with an index.yaml) or of a place in an OCI registry
	// ("oci://…", to which the chart's name is appended). If "", Name is the path of a directory or .tgz file.
	Repository string
	Name       string
	// Version is exact; ranges are refused, as they would make plans depend on the day. It may be "" for a local path,
	// and otherwise has to be the chart's.
	Version string
}

func (s Source) String() string {
	switch {
	case s.Repository == "":
		return s.Name
	case strings.HasPrefix(s.Repository, ociScheme):
		return strings.TrimSuffix(s.Repository, "/") + "/" + s.Name + ":" + s.Version
	default:
		return s.Name + " " + s.Version + " from " + s.Repository
	}
}

const ociScheme = "oci://"

// Validate tells whether the source can be one, without looking for it.
func (s Source) Validate() error {
	if s.Name == "" {
		return errors.New("chart: a name is needed")
	}
	if s.Repository == "" {
		return nil
	}
	location, err := url.Parse(s.Repository)
	if err != nil {
		// The error of the parser quotes the URL, which can hold a password.
		return fmt.Errorf("chart %s: its repository is not a URL", s.Name)
	}
	switch {
	case location.User != nil:
		return fmt.Errorf("chart %s: the URL of its repository holds credentials; configure them for host %s instead",
			s.Name, location.Host)
	case location.Scheme != "https" && location.Scheme != "http" && location.Scheme != "oci":
		return fmt.Errorf("chart %s: repository %s is neither https:// nor oci://", s.Name, s.Repository)
	case location.Host == "":
		return fmt.Errorf("chart %s: repository %s has no host", s.Name, s.Repository)
	}
	if _, err := semver.NewVersion(s.Version); err != nil {
		return fmt.Errorf("chart %s: %q is not an exact version, such as 1.2.3", s.Name, s.Version)
	}
	return nil
}

// Load returns a chart. Local paths are read anew each time; everything else is fetched once. Errors are, besides
// those of Source.Validate and of ctx: UnknownChartError, UnknownVersionError, UnauthorizedError, UnreachableError,
// DigestError.
func (l *Library) Load(ctx context.Context, source Source) (*Chart, error) {
	if err := source.Validate(); err != nil {
		return nil, err
	}
	if source.Repository == "" {
		return loadLocal(source)
	}
	shared := l.join(ctx, source)
	select {
	case <-shared.done:
		l.leave(source, shared)
		return shared.chart, shared.err
	case <-ctx.Done():
		l.leave(source, shared)
		return nil, fmt.Errorf("chart %s: %w", source, context.Cause(ctx))
	}
}

func loadLocal(source Source) (*Chart, error) {
	local, err := readLocal(source.Name)
	if err != nil {
		return nil, err
	}
	if source.Version != "" && source.Version != local.Version() {
		return nil, &UnknownVersionError{
			Repository: source.Name, Name: local.Name(), Version: source.Version, Nearest: []string{local.Version()},
		}
	}
	return local, nil
}

// join waits for the load of a source that is under way or done, or begins one.
func (l *Library) join(ctx context.Context, source Source) *load {
	l.mu.Lock()
	defer l.mu.Unlock()
	shared, ok := l.loads[source]
	if !ok {
		// The first to want the chart may lose patience before the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
		shared = &load{done: make(chan struct{}), cancel: cancel}
		l.loads[source] = shared
		go func() {
			defer cancel()
			defer close(shared.done)
			shared.chart, shared.err = l.fetch(ctx, source)
		}()
	}
	shared.waiting++
	return shared
}

// leave ends a load that nobody waits for, and forgets one that failed, so that the next caller tries again.
func (l *Library) leave(source Source, shared *load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	shared.waiting--
	forget := false
	select {
	case <-shared.done:
		forget = shared.err != nil
	default:
		forget = shared.waiting == 0
	}
	if forget && l.loads[source] == shared {
		shared.cancel()
		delete(l.loads, source)
	}
}

// fetch reads a chart from the disk cache, or else from where it is.
func (l *Library) fetch(ctx context.Context, source Source) (*Chart, error) {
	stored, err := l.shelf(source)
	if err != nil {
		return nil, err
	}
	if found := stored.read(); found != nil {
		return found, nil
	}
	download := l.fromRepository
	if strings.HasPrefix(source.Repository, ociScheme) {
		download = l.fromRegistry
	}
	archive, err := download(ctx, source)
	if err != nil {
		return nil, err
	}
	found, err := readArchive(archive)
	if err != nil {
		return nil, fmt.Errorf("chart %s cannot be read: %w", source, err)
	}
	if found.Name() != source.Name || found.Version() != source.Version {
		return nil, fmt.Errorf("chart %s: its repository serves %s %s in its place", source, found.Name(), found.Version())
	}
	if err := stored.write(archive); err != nil {
		return nil, fmt.Errorf("keep chart %s in the cache: %w", source, err)
	}
	return found, nil
}

// shelf is the place of one chart in the disk cache. The name of the file in it holds the digest of its contents, so
// that a damaged file is known for what it is.
type shelf struct {
	dir    string // "" if the chart is not to be kept
	prefix string
}

// shelf returns the place of a source. Charts from loopback addresses are not kept: ports are given out again, to
// other repositories.
func (l *Library) shelf(source Source) (shelf, error) {
	location, err := url.Parse(source.Repository)
	if err != nil || oci.IsLoopback(location.Host) {
		return shelf{}, err
	}
	root := l.cacheDir
	if root == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return shelf{}, fmt.Errorf("cache directory for charts: %w", err)
		}
		root = filepath.Join(user, "aksmesh", "charts")
	}
	repository := strings.TrimPrefix(digestOf([]byte(strings.TrimSuffix(source.Repository, "/"))), "sha256:")
	return shelf{
		dir:    filepath.Join(root, repository[:16]),
		prefix: strings.ReplaceAll(source.Name, "/", "_") + "-" + source.Version + "@",
	}, nil
}

// read returns the chart, or nil if there is none that can be used.
func (s shelf) read() *Chart {
	if s.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		digest, ok := strings.CutPrefix(strings.TrimSuffix(entry.Name(), ".tgz"), s.prefix)
		if !ok {
			continue
		}
		found, err := readArchiveFile(filepath.Join(s.dir, entry.Name()))
		if err == nil && found.Digest() == "sha256:"+digest {
			return found
		}
	}
	return nil
}

// write puts the chart in its place at once and whole, for other processes use the cache, too.
func (s shelf) write(archive []byte) error {
	if s.dir == "" {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(s.dir, ".fetched-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(archive)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		digest := strings.TrimPrefix(digestOf(archive), "sha256:")
		err = os.Rename(temporary.Name(), filepath.Join(s.dir, s.prefix+digest+".tgz"))
	}
	if err != nil {
		if removeErr := os.Remove(temporary.Name()); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

// Login is the credential among LibraryOptions.Registries for an OCI registry's host, as an oci.Keychain has it: the
// one that was given for it, not one of LibraryOptions.Keychain.
func (l *Library) Login(ctx context.Context, host string) (auth.Credential, error) {
	return l.given(ctx, host)
}

// Registries is the client by which the library asks registries: with its credentials, it asks for images as well.
func (l *Library) Registries() *oci.Client { return l.registries }
