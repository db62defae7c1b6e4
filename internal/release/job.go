package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// expires reports a Job that is deleted by itself when its time is over.
func (e *entry) expires() bool {
	_, limited, err := unstructured.NestedFieldNoCopy(e.Object.Object, "spec", "ttlSecondsAfterFinished")
	return e.kind() == kube.Job && limited && err == nil
}

// noteTemplate remembers the pod template of a Job as it was given.
func (e *entry) noteTemplate() error {
	if e.kind() != kube.Job {
		return nil
	}
	template, _, err := unstructured.NestedFieldNoCopy(e.Object.Object, "spec", "template")
	if err != nil {
		return err
	}
	text, err := json.Marshal(template)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	e.Template = hex.EncodeToString(sum[:])
	return nil
}

// leaveJobs gives Jobs that are complete the pod templates that they had, if
// nothing but the transformation has changed: the template cannot be changed in
// place, and to run everything again only to have it in a mesh is not what
// anybody asks for.
func (r *Release) leaveJobs(ctx context.Context, wanted []*entry) error {
	if r.record == nil || r.record.Phase != PhaseDeployed {
		return nil
	}
	before := map[key]*entry{}
	for _, e := range r.record.Objects {
		before[e.key()] = e
	}
	for _, e := range wanted {
		was := before[e.key()]
		if e.kind() != kube.Job || was == nil || was.Template != e.Template || same(was, e) {
			continue
		}
		switch live, err := r.releases.Cluster.Find(ctx, e.ref()); {
		case errors.Is(err, kube.ErrNotFound) && was.expires():
		case errors.Is(err, kube.ErrNotFound):
			continue
		case err != nil:
			return err
		default:
			if lacks, err := jobLacks(live); err != nil || lacks != "" {
				continue // It runs or has failed, and so it runs again.
			}
		}
		template, _, err := unstructured.NestedMap(was.Object.Object, "spec", "template")
		if err != nil {
			return err
		}
		if err := unstructured.SetNestedMap(e.Object.Object, template, "spec", "template"); err != nil {
			return err
		}
	}
	return nil
}
