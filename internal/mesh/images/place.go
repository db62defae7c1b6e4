package images

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/oci"
)

// Place is where a mirror keeps images: in a registry, below a path.
type Place struct {
	Host   string // "example.azurecr.io", with the port if it has one
	Prefix string // "mesh/linkerd", may be empty
}

// ParsePlace reads what String writes.
func ParsePlace(text string) (Place, error) {
	host, prefix, _ := strings.Cut(text, "/")
	place := Place{Host: host, Prefix: prefix}
	return place, place.Validate()
}

// Validate tells whether there can be images in the place.
func (p Place) Validate() error {
	if err := p.Target(oci.Reference{Repository: "image", Tag: "tag"}).Validate(); err != nil {
		return fmt.Errorf("%q is not a registry's host with a path, such as example.azurecr.io/linkerd: %w", p, err)
	}
	return nil
}

// String is the place as installers take it for the registry and path of all
// images.
func (p Place) String() string {
	if p.Prefix == "" {
		return p.Host
	}
	return p.Host + "/" + p.Prefix
}

// Target is where the place keeps an image, without its digest: installers replace
// all that is before the last part of an image's name.
func (p Place) Target(image oci.Reference) oci.Reference {
	name := image.Repository[strings.LastIndex(image.Repository, "/")+1:]
	if p.Prefix != "" {
		name = p.Prefix + "/" + name
	}
	return oci.Reference{Registry: p.Host, Repository: name, Tag: image.Tag}
}

// Path is what an image is called within its registry.
func Path(image oci.Reference) string {
	return strings.TrimPrefix(image.String(), image.Registry+"/")
}

// CollisionError says that two images would be kept under one name.
type CollisionError struct{ First, Second, Target oci.Reference }

func (e *CollisionError) Error() string {
	return fmt.Sprintf("images %s and %s would both be kept as %s, as only the last part of a name and the tag remain; keep them in mirrors with different prefixes",
		e.First, e.Second, Path(e.Target))
}

// CheckCollisions returns a *[CollisionError] for two images that no place could
// keep apart, the same two in whatever order the images are. One image by several
// names is no collision.
func CheckCollisions(images []oci.Reference) error {
	byName := func(a, b oci.Reference) int { return cmp.Compare(a.String(), b.String()) }
	kept := map[oci.Reference]oci.Reference{}
	for _, image := range slices.SortedFunc(slices.Values(images), byName) {
		target := Place{}.Target(image)
		if image.Tag == "" {
			target.Digest = image.Digest
		}
		other, taken := kept[target]
		if taken && image != other && (image.Digest == "" || image.Digest != other.Digest) {
			return &CollisionError{First: other, Second: image, Target: target}
		}
		kept[target] = image
	}
	return nil
}
