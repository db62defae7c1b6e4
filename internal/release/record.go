package release

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

const (
	recordPrefix = "aksmesh-release-"
	recordKey    = "release"
	recordType   = "aksmesh.io/release"

	// format is raised when an older version could not read what this one writes.
	format = 1
)

// recordLabels mark the Secrets as made whole by this provider.
func recordLabels(name string) map[string]string {
	labels := kube.OursLabels()
	labels["aksmesh.io/release-name"] = name
	return labels
}

// record is what a release's Secret holds.
type record struct {
	Format    int             `json:"format"`
	Phase     Phase           `json:"phase"`
	Failure   string          `json:"failure,omitempty"`
	Installed bool            `json:"installed"` // completely deployed before
	Origin    Origin          `json:"origin"`
	Inputs    json.RawMessage `json:"inputs,omitempty"`
	// Objects are what the release is, or is about to be, in order of
	// installation. That they look like this in the cluster is certain only in
	// PhaseDeployed.
	Objects []*entry `json:"objects"`
	// Former are objects of earlier deployments that are to be deleted, or would
	// be if CRDs were pruned.
	Former []*entry `json:"former,omitempty"`
	// Hooks are those that run when the release is uninstalled.
	Hooks      []*entry `json:"hooks,omitempty"`
	HideValues bool     `json:"hideValues,omitempty"`
	// PreDeleted is set when the hooks before deletion have run.
	PreDeleted bool `json:"preDeleted,omitempty"`

	// What the Secret was when it was read or written last.
	uid     types.UID
	version string
}

func recordRef(namespace, name string) kube.Ref {
	return kube.Ref{Kind: kube.Secret, Namespace: namespace, Name: recordPrefix + name}
}

// read reads a record; the error wraps kube.ErrNotFound if there is none.
func (r *Releases) read(ctx context.Context, namespace, name string) (*record, error) {
	secret, err := r.Cluster.Secret(ctx, namespace, recordPrefix+name)
	if err != nil {
		return nil, err
	}
	found, err := decode(secret.Data[recordKey])
	if err != nil || secret.Type != recordType {
		// The decoder's words could quote the content.
		return nil, fmt.Errorf("%s does not hold a release; delete it if nothing of the release is left", recordRef(namespace, name))
	}
	if found.Format > format {
		return nil, fmt.Errorf("%s was written by a newer version of this provider; use that one", recordRef(namespace, name))
	}
	found.uid, found.version = secret.UID, secret.ResourceVersion
	return found, nil
}

func decode(data []byte) (*record, error) {
	unpacked, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, err
	}
	found := &record{}
	return found, json.Unmarshal(text, found)
}

func encode(r *record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	pack := gzip.NewWriter(&packed)
	if _, err := pack.Write(text); err != nil {
		return nil, err
	}
	if err := pack.Close(); err != nil {
		return nil, err
	}
	if packed.Len() > corev1.MaxSecretSize {
		return nil, &RecordSizeError{Bytes: packed.Len()}
	}
	return packed.Bytes(), nil
}

// write puts the record of the release in the cluster. Of two who work on one
// release at the same time, the second to write fails.
func (r *Release) write(ctx context.Context, next *record) error {
	next.Format = format
	data, err := encode(next)
	if err != nil {
		return fmt.Errorf("record the release: %w", err)
	}
	object := recordRef(r.namespace, r.name).Object()
	object.SetLabels(recordLabels(r.name))
	object.Object["type"] = recordType
	object.Object["data"] = map[string]any{recordKey: base64.StdEncoding.EncodeToString(data)}
	options := kube.ApplyOptions{Manager: Manager, Force: true, CreateOnly: true}
	if r.record != nil {
		object.SetUID(r.record.uid)
		object.SetResourceVersion(r.record.version)
		options.CreateOnly = false
	}
	written, err := r.releases.Cluster.Apply(ctx, object, options)
	switch {
	case errors.Is(err, kube.ErrExists), errors.Is(err, kube.ErrChanged):
		return fmt.Errorf("somebody else works on the release at this moment, try again when they are done: %w", err)
	case namesNamespace(err):
		return fmt.Errorf("namespace %s does not exist; create it first, or let the release create it: %w", r.namespace, err)
	case err != nil:
		return fmt.Errorf("record the release: %w", err)
	}
	next.uid, next.version = written.GetUID(), written.GetResourceVersion()
	r.record = next
	return nil
}
