package kms

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/softkms"
	"go.step.sm/crypto/kms/uri"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// softSuffix is how the files of versions in a directory end.
const softSuffix = ".pem"

// softRequests say how keys are asked of the software KMS: by the signatures
// that they make.
var softRequests = map[pki.Algorithm]apiv1.CreateKeyRequest{
	pki.AlgorithmECDSAP256: {SignatureAlgorithm: apiv1.ECDSAWithSHA256},
	pki.AlgorithmECDSAP384: {SignatureAlgorithm: apiv1.ECDSAWithSHA384},
	pki.AlgorithmRSA2048:   {SignatureAlgorithm: apiv1.SHA256WithRSA, Bits: 2048},
	pki.AlgorithmRSA4096:   {SignatureAlgorithm: apiv1.SHA256WithRSA, Bits: 4096},
}

// softKey is the PEM file of a key, or, with a slash at its end, the directory
// of a key's versions.
type softKey struct {
	path string
}

func parseSoft(parsed *uri.URI) (key, error) {
	if parsed.Host != "" || parsed.User != nil || parsed.Fragment != "" {
		return nil, errors.New("softkms key URI is malformed: it is softkms:path=<file>, or softkms:path=<directory>/")
	}
	// step reads softkms:<path> as well, of which it takes relative ones for the
	// name of a parameter.
	path := parsed.Path
	if path == "" && !strings.Contains(parsed.Opaque, "=") {
		path = parsed.Opaque
		parsed.Values = nil
	}
	values, err := parameters(parsed, "path")
	if err != nil {
		return nil, err
	}
	if given, ok := values["path"]; ok {
		if path != "" {
			return nil, errors.New("softkms key URI names the path twice")
		}
		path = given
	}
	if path == "" {
		return nil, errors.New("softkms key URI lacks the path: it is softkms:path=<file>, or softkms:path=<directory>/")
	}
	return softKey{path: path}, nil
}

// String returns the URI with the path readable.
func (k softKey) String() string {
	return softkms.Scheme + ":path=" + strings.ReplaceAll(url.QueryEscape(k.path), "%2F", "/")
}

func (k softKey) fixed() bool { return !strings.HasSuffix(k.path, "/") }

func (k softKey) unfixed() string { return "name a directory, with a slash at its end" }

func (k softKey) open(context.Context, Keys) (crypto.Signer, error) {
	file := k
	if !k.fixed() {
		newest, err := k.newest()
		if err != nil {
			return nil, err
		}
		if newest == 0 {
			return nil, k.explain(operationRead, fmt.Errorf("directory %s holds no key: %w", k.path, fs.ErrNotExist))
		}
		file = k.version(newest)
	}
	// Not by step, which asks on the terminal for the password of an encrypted
	// key.
	content, err := os.ReadFile(file.path)
	if err != nil {
		return nil, k.explain(operationRead, err)
	}
	opened, err := pki.ParseKey(content)
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", file.path, err)
	}
	return opened, nil
}

func (k softKey) create(ctx context.Context, _ Keys, algorithm pki.Algorithm) (creation, error) {
	if err := ctx.Err(); err != nil {
		return creation{}, err
	}
	request := softRequests[algorithm]
	keys, err := softkms.New(ctx, apiv1.Options{Type: apiv1.SoftKMS})
	if err != nil {
		return creation{}, err
	}
	made, err := keys.CreateKey(&request)
	if err != nil {
		return creation{}, err
	}
	opened := made.CreateSignerRequest.Signer
	content, err := pki.EncodeKey(opened)
	if err != nil {
		return creation{}, err
	}
	if err := os.MkdirAll(k.path, 0o700); err != nil {
		return creation{}, k.explain(operationCreate, err)
	}
	for {
		newest, err := k.newest()
		if err != nil {
			return creation{}, err
		}
		version := k.version(newest + 1)
		switch err := writeNew(version.path, append(content, '\n')); {
		case err == nil:
			return creation{key: version, signer: opened}, nil
		case !errors.Is(err, fs.ErrExist):
			return creation{}, k.explain(operationCreate, err)
		}
		// Somebody else made this version meanwhile: ours is the next.
	}
}

// newest returns the number of the newest version, 0 if there is none.
func (k softKey) newest() (int, error) {
	entries, err := os.ReadDir(k.path)
	if err != nil {
		return 0, k.explain(operationRead, err)
	}
	newest := 0
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), softSuffix)
		if !ok {
			continue
		}
		if number, err := strconv.Atoi(name); err == nil {
			newest = max(newest, number)
		}
	}
	return newest, nil
}

func (k softKey) version(number int) softKey {
	return softKey{path: filepath.Join(k.path, strconv.Itoa(number)+softSuffix)}
}

func (k softKey) explain(operation operation, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such key; check the path, which is relative to where Terraform runs: %w", operation, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: forbidden; check owner and mode of the file and its directory: %w", operation, err)
	default:
		return fmt.Errorf("%s: %w", operation, err)
	}
}

// writeNew writes a file that must not exist, whole or not at all, for its
// owner alone.
func writeNew(path string, content []byte) (err error) {
	draft, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(draft.Name())) }()
	_, err = draft.Write(content)
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what is there.
	return os.Link(draft.Name(), path)
}
