package install

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

// Renderings are what charts were rendered to in this run, for one cluster. The
// zero value is ready for use, also concurrently.
type Renderings struct {
	mu   sync.Mutex
	done map[string]*helm.Rendered
}

// rolling finds what templates render otherwise each time by.
var rolling = regexp.MustCompile(`\b(gen(CA|PrivateKey|SelfSignedCert|SignedCert)|rand(Alpha|Numeric|AlphaNum|Ascii|Bytes|Int)|uuidv4|now|htpasswd|bcrypt|encryptAES|shuffle|ago)`)

// Render renders what deploying a release would send to the cluster, once in a
// run for the same values. Charts whose templates look at the cluster are rendered each time: what
// is there changes during an apply.
func (c Charts) Render(ctx context.Context, r Release) (*helm.Rendered, error) {
	return c.once(r, "", func() (*helm.Rendered, error) {
		return c.Releases.Render(ctx, helm.DeployRequest{Namespace: r.Namespace, Name: r.Name, Chart: r.Chart, Values: r.Values})
	})
}

// renderAgain renders the upgrade of a release to its next revision as at another
// time: what comes out otherwise than by Render does so each time.
func (c Charts) renderAgain(ctx context.Context, r Release, revision int) (*helm.Rendered, error) {
	return c.once(r, " again", func() (*helm.Rendered, error) {
		return c.Releases.Template(ctx, helm.RenderRequest{
			Namespace: r.Namespace, Name: r.Name, Chart: r.Chart, Values: r.Values,
			IsUpgrade: revision > 1, Revision: revision, OtherTime: true,
		})
	})
}

// once keeps what a release is rendered to, in one way of rendering it.
func (c Charts) once(r Release, way string, render func() (*helm.Rendered, error)) (*helm.Rendered, error) {
	if c.Renderings == nil || r.Chart.LooksAtCluster() {
		return render()
	}
	key, err := renderingKey(r)
	if err != nil {
		return nil, err
	}
	if rendered := c.Renderings.get(key + way); rendered != nil {
		return rendered, nil
	}
	rendered, err := render()
	if err != nil {
		return nil, err
	}
	c.Renderings.put(key+way, rendered)
	return rendered, nil
}

// rendered is what a release was rendered to in this run, or nil.
func (c Charts) rendered(r Release) (*helm.Rendered, error) {
	if c.Renderings == nil {
		return nil, nil //nolint:nilnil // Nothing is kept.
	}
	key, err := renderingKey(r)
	if err != nil {
		return nil, err
	}
	return c.Renderings.get(key), nil
}

// forget drops the renderings of a release that has been changed: the first
// rendering is for an installation, later ones are for upgrades.
func (c Charts) forget(namespace, name string) {
	if c.Renderings == nil {
		return
	}
	c.Renderings.mu.Lock()
	defer c.Renderings.mu.Unlock()
	for key := range c.Renderings.done {
		if strings.HasPrefix(key, namespace+"/"+name+" ") {
			delete(c.Renderings.done, key)
		}
	}
}

func renderingKey(r Release) (string, error) {
	values, err := Digest(r.Values)
	return fmt.Sprintf("%s %s %s", r.id(), r.Chart.Digest(), values), err
}

func (r *Renderings) get(key string) *helm.Rendered {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done[key]
}

func (r *Renderings) put(key string, rendered *helm.Rendered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = map[string]*helm.Rendered{}
	}
	r.done[key] = rendered
}
