package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/azure/acr"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/images"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

// mirroring is the filling of a mirror.
type mirroring struct {
	client *oci.Client
	model  *imageMirrorModel
	place  images.Place
	// importer has the registry fetch an image; nil if it cannot.
	importer func(ctx context.Context, task oci.Task) error
	items    []mirrorItem
	diags    *diag.Diagnostics
}

// mirrorItem is one image that has to come to its place.
type mirrorItem struct {
	image string // as the configuration has it
	name  string // in the registry
	from  oci.Reference
	to    oci.Reference
	move  bool // a tag that leads elsewhere may be moved

	digest string // of the image in its place; empty as long as it is not there
	err    error
}

func (w *mirroring) add(image, name string, from oci.Reference, move bool) {
	w.items = append(w.items, mirrorItem{image: image, name: name, from: from, to: w.place.Target(from), move: move})
}

// refused notes that the registry cannot be asked to import.
func (w *mirroring) refused(err error) {
	if w.model.Method.ValueString() == methodImport {
		problemRegistry(w.diags, mirrorFailed, err)
		return
	}
	w.diags.AddWarning("Images Are Copied", "Azure cannot be asked to import them. "+explain(err, acr.Advice))
}

// login is the credential for the registry that an image comes from, as an import
// wants it; empty if it lets anybody read.
func (w *mirroring) login(ctx context.Context, host string) (username, password string, err error) {
	credential, err := w.client.Credential(ctx, host)
	if err != nil {
		return "", "", err
	}
	if credential.RefreshToken != "" {
		// The name by which Azure's registries take their tokens for passwords.
		return "00000000-0000-0000-0000-000000000000", credential.RefreshToken, nil
	}
	return credential.Username, credential.Password, nil
}

// run brings all images to their places, and reports what fails.
func (w *mirroring) run(ctx context.Context) {
	if w.diags.HasError() {
		return
	}
	pending := w.check(ctx)
	parallel := int(w.model.Parallelism.ValueInt64())
	var copied []int
	if w.importer != nil {
		var imports []int
		for _, i := range pending {
			if w.model.Method.ValueString() == methodAuto && !public(w.items[i].from.Registry) {
				copied = append(copied, i)
			} else {
				imports = append(imports, i)
			}
		}
		w.mirror(ctx, imports, oci.MirrorOptions{Parallel: parallel, Import: w.importer})
		var refusals []string
		var refusal error
		for _, i := range imports {
			item := &w.items[i]
			failed, refused := errors.AsType[*acr.ImportError](item.err)
			if w.model.Method.ValueString() == methodAuto && refused && ctx.Err() == nil {
				refusals = append(refusals, item.name)
				refusal = cmp.Or[error](refusal, failed)
				copied = append(copied, i)
			}
		}
		if refusal != nil {
			w.diags.AddWarning("Images Were Copied", explain(fmt.Errorf("the images %s went through this machine, as Azure did not import: %w", strings.Join(refusals, ", "), refusal), acr.Advice))
		}
	} else {
		copied = pending
	}
	w.mirror(ctx, copied, oci.MirrorOptions{Parallel: parallel, Progress: func(p oci.Progress) {
		tflog.Info(ctx, "part of an image is in its place", map[string]any{
			"image": p.To.String(), "digest": p.Digest, "media_type": p.MediaType, "bytes": p.Size, "was_there": p.Skipped,
		})
	}})
	for _, item := range w.items {
		if item.err != nil {
			problemRegistry(w.diags, mirrorFailed, fmt.Errorf("image %s of the mirror: %w", item.name, item.err))
		}
	}
}

// check looks what is in the places already, and returns what has to be brought
// there: tags of others are not moved.
func (w *mirroring) check(ctx context.Context) []int {
	var loose []int
	for i, item := range w.items {
		if item.from.Digest == "" {
			loose = append(loose, i)
		}
	}
	sources := make([]oci.Reference, len(loose))
	for n, i := range loose {
		sources[n] = w.items[i].from
	}
	for n, found := range w.client.Digests(ctx, sources, resolvesAtOnce) {
		w.items[loose[n]].from.Digest, w.items[loose[n]].err = found.Descriptor.Digest, found.Err
	}
	places := make([]oci.Reference, len(w.items))
	for i, item := range w.items {
		places[i] = item.to
		if item.to.Tag == "" {
			places[i].Digest = item.from.Digest
		}
	}
	var pending []int
	for i, found := range w.client.Digests(ctx, places, resolvesAtOnce) {
		item := &w.items[i]
		switch {
		case item.err != nil:
		case found.Err == nil && found.Descriptor.Digest == item.from.Digest:
			item.digest = item.from.Digest
			tflog.Info(ctx, "image is there already", map[string]any{"image": item.to.String()})
		case found.Err == nil && !item.move:
			item.err = fmt.Errorf("it is in the registry already, and leads to another image (%s instead of %s of %s): set overwrite to have it moved, or choose another prefix",
				found.Descriptor.Digest, item.from.Digest, item.from.Name())
		default:
			pending = append(pending, i) // What else is wrong with the place, the attempt tells.
		}
	}
	return pending
}

// mirror brings some of the images to their places.
func (w *mirroring) mirror(ctx context.Context, items []int, options oci.MirrorOptions) {
	tasks := make([]oci.Task, len(items))
	for n, i := range items {
		tasks[n] = oci.Task{From: w.items[i].from, To: w.items[i].to, Move: w.items[i].move}
	}
	var unseen []string
	for n, outcome := range w.client.Mirror(ctx, tasks, options) {
		item := &w.items[items[n]]
		item.digest, item.err = outcome.Digest, outcome.Err
		switch {
		case outcome.Err != nil:
			tflog.Warn(ctx, "image could not be brought to its place", map[string]any{"image": item.to.String(), "error": outcome.Err.Error()})
		case outcome.Unverified != nil:
			unseen = append(unseen, item.name)
			fallthrough
		default:
			tflog.Info(ctx, "image is in its place", map[string]any{
				"image": item.to.String(), "digest": outcome.Digest, "imported": options.Import != nil, "was_there": !outcome.Placed,
			})
		}
	}
	if len(unseen) > 0 {
		w.diags.AddWarning("Images Not Verified", fmt.Sprintf(
			"Azure has imported these by their digests, and cannot be seen to have done so, as the registry %s is not reachable from here: %s", w.place.Host, strings.Join(unseen, ", ")))
	}
}

// public reports whether Azure may be able to reach a registry: it cannot reach
// names and addresses that mean something here only.
func public(host string) bool {
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	if address := net.ParseIP(strings.Trim(name, "[]")); address != nil {
		return !address.IsPrivate() && !address.IsLoopback() && !address.IsLinkLocalUnicast()
	}
	return strings.Contains(name, ".") && !strings.HasSuffix(name, ".local") && !strings.HasSuffix(name, ".internal")
}
