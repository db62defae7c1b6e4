package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
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
	images []string // as the configuration has it, by one name or several
	name   string   // in the registry
	from   oci.Reference
	to     oci.Reference
	move   bool // a tag that leads elsewhere may be moved
	pinned bool // from has the digest that the mirror had of it, and the configuration has none

	digest string // of the image in its place; empty as long as it is not there
	err    error
}

// add notes that an image has to come; what has its name in the registry is the same
// image.
func (w *mirroring) add(image string, item mirrorItem) {
	at := slices.IndexFunc(w.items, func(other mirrorItem) bool { return other.name == item.name })
	if at < 0 {
		item.to = w.place.Target(item.from)
		w.items, at = append(w.items, item), len(w.items)
	}
	there := &w.items[at]
	there.images = append(there.images, image)
	if there.from.Digest == "" {
		there.from.Digest, there.pinned = item.from.Digest, item.pinned
	}
}

// refused notes that the registry cannot be asked to import.
func (w *mirroring) refused(err error) {
	if w.model.Method.ValueString() == methodImport {
		problemRegistry(w.diags, mirrorFailed, err)
		return
	}
	w.diags.AddWarning("Images Are Copied", "Azure cannot be asked to import them. "+explain(err, acr.Advice))
}

// run brings all images to their places, and reports what fails.
func (w *mirroring) run(ctx context.Context) {
	if w.diags.HasError() {
		return // Nobody can import them.
	}
	parallel := int(w.model.Parallelism.ValueInt64())
	automatic := w.model.Method.ValueString() == methodAuto
	var imports, copied []int
	for i, item := range w.items {
		if w.importer == nil || automatic && !public(item.from.Registry) {
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
		_, refused := errors.AsType[*acr.ImportError](item.err)
		if automatic && refused && ctx.Err() == nil {
			refusals = append(refusals, item.name)
			refusal = cmp.Or(refusal, item.err)
			copied = append(copied, i)
		}
	}
	if refusal != nil {
		w.diags.AddWarning("Images Were Copied", explain(fmt.Errorf("the images %s went through this machine, as Azure did not import: %w", strings.Join(refusals, ", "), refusal), acr.Advice))
	}
	w.mirror(ctx, copied, oci.MirrorOptions{Parallel: parallel, Progress: func(p oci.Progress) {
		tflog.Info(ctx, "part of an image is in its place", map[string]any{
			"image": p.To.String(), "digest": p.Digest, "media_type": p.MediaType, "bytes": p.Size, "was_there": p.Skipped,
		})
	}})
	w.report(ctx)
}

// report tells which images did not come, of those that no time was left for all at
// once.
func (w *mirroring) report(ctx context.Context) {
	var late []string
	for _, item := range w.items {
		_, taken := errors.AsType[*oci.TakenError](item.err)
		unknown, gone := errors.AsType[*oci.UnknownError](item.err)
		err := fmt.Errorf("image %s of the mirror: %w", item.name, item.err)
		switch {
		case item.err == nil:
			continue
		case ctx.Err() != nil && errors.Is(item.err, context.Cause(ctx)):
			late = append(late, item.name)
			continue
		case taken:
			err = fmt.Errorf("%w: set overwrite to have the tag moved, or choose another prefix", err)
		case gone && item.pinned && unknown.Reference.Name() == item.from.Name():
			err = fmt.Errorf("%w; the mirror had this one, and its registry no longer has it, as its tag has moved: write the digest of the one that is wanted, or take the image out of images for one apply to get what its tag leads to now", err)
		}
		problemRegistry(w.diags, mirrorFailed, err)
	}
	if len(late) > 0 {
		problem(w.diags, mirrorFailed, fmt.Errorf("the images %s of the mirror did not come in time: %w; what Azure has begun to import, it goes on with, and the next apply finds what has come", strings.Join(late, ", "), context.Cause(ctx)))
	}
}

// mirror brings some of the images to their places.
func (w *mirroring) mirror(ctx context.Context, items []int, options oci.MirrorOptions) {
	tasks := make([]oci.Task, len(items))
	for n, i := range items {
		tasks[n] = oci.Task{From: w.items[i].from, To: w.items[i].to, Move: w.items[i].move}
	}
	var names []string
	var unseen error
	for n, outcome := range w.client.Mirror(ctx, tasks, options) {
		item := &w.items[items[n]]
		item.digest, item.err = outcome.Digest, outcome.Err
		if item.err != nil {
			tflog.Warn(ctx, "image could not be brought to its place", map[string]any{"image": item.to.String(), "error": item.err.Error()})
			continue
		}
		if outcome.Unverified != nil {
			names = append(names, item.name)
			unseen = cmp.Or(unseen, outcome.Unverified)
		}
		tflog.Info(ctx, "image is in its place", map[string]any{
			"image": item.to.String(), "digest": item.digest, "imported": options.Import != nil, "was_there": !outcome.Placed,
		})
	}
	if unseen != nil {
		w.diags.AddWarning("Images Not Verified", explain(fmt.Errorf(
			"nobody has seen whether these have come, which Azure has imported by their digests, now or before, as the registry %s cannot be read from here: %s: %w", w.place.Host, strings.Join(names, ", "), unseen), acr.Advice, oci.Advice))
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
