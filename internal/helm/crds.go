package helm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// crdTimeout is how long new CustomResourceDefinitions may take to be served. It is Helm's own.
const crdTimeout = time.Minute

// CRDVersionError says that a CustomResourceDefinition cannot become what a chart wants it to be, because objects in the
// cluster could then be read no more.
type CRDVersionError struct {
	Name     string
	Stored   []string // versions in which objects are stored in the cluster
	Versions []string // versions that the chart defines
	// Conversion is the strategy by which the cluster converts between the stored versions and which the chart drops, ""
	// if it is a version that is dropped.
	Conversion string
}

func (e *CRDVersionError) Error() string {
	if e.Conversion != "" {
		return fmt.Sprintf("%s %s: objects are stored in the versions %s, and the chart drops the conversion by %s between them; "+
			"write all objects anew in one version and take the others out of status.storedVersions first",
			crdKind, e.Name, strings.Join(e.Stored, ", "), e.Conversion)
	}
	return fmt.Sprintf("%s %s: objects are stored in the versions %s, and the chart defines only %s; write all objects anew in a "+
		"version that stays and take the others out of status.storedVersions first, or go by a version of the chart that has both",
		crdKind, e.Name, strings.Join(e.Stored, ", "), strings.Join(e.Versions, ", "))
}

// CheckCRD compares a CustomResourceDefinition in the cluster with what it is to become. The error is a CRDVersionError
// if objects that are stored could be read no more.
func CheckCRD(live, wanted *unstructured.Unstructured) error {
	stored, _, err := unstructured.NestedStringSlice(live.Object, "status", "storedVersions")
	if err != nil {
		return fmt.Errorf("%s %s in the cluster: %w", crdKind, live.GetName(), err)
	}
	definitions, _, err := unstructured.NestedSlice(wanted.Object, "spec", "versions")
	if err != nil {
		return fmt.Errorf("%s %s of the chart: %w", crdKind, wanted.GetName(), err)
	}
	found := &CRDVersionError{Name: wanted.GetName(), Stored: stored}
	for _, definition := range definitions {
		if fields, ok := definition.(map[string]any); ok {
			if version, ok := fields["name"].(string); ok {
				found.Versions = append(found.Versions, version)
			}
		}
	}
	for _, version := range stored {
		if !slices.Contains(found.Versions, version) {
			return found
		}
	}
	if now, next := conversionOf(live), conversionOf(wanted); len(stored) > 1 && now != noConversion && next == noConversion {
		found.Conversion = now
		return found
	}
	return nil
}

// noConversion is the strategy of a CustomResourceDefinition that has none.
const noConversion = "None"

func conversionOf(crd *unstructured.Unstructured) string {
	strategy, set, err := unstructured.NestedString(crd.Object, "spec", "conversion", "strategy")
	if err != nil || !set {
		return noConversion
	}
	return strategy
}

// prepareCRDs refuses what a deployment may not do to the CustomResourceDefinitions in the cluster, and brings those of
// the crds directories up to date when it is an upgrade, which Helm never does.
func (op *operation) prepareCRDs(request DeployRequest, rendered *Rendered, loaded *chart.Chart) error {
	if err := op.checkManifest(rendered); err != nil {
		return err
	}
	if rendered.revision == 1 || len(loaded.CRDObjects()) == 0 {
		return nil
	}
	wanted, err := op.buildCRDs(loaded)
	if err != nil {
		return err
	}
	if !request.TakeOwnership {
		if wanted, err = op.withoutForeign(wanted); err != nil {
			return err
		}
	}
	objects := make([]*unstructured.Unstructured, 0, len(wanted))
	for _, info := range wanted {
		if object, ok := info.Object.(*unstructured.Unstructured); ok {
			objects = append(objects, object)
		}
	}
	if err := op.checkCRDs(objects); err != nil {
		return err
	}
	former, err := op.records.decode(op.records.newestFirst()[0])
	if err != nil {
		return err
	}
	had, err := op.buildCRDs(former.Chart)
	if err != nil {
		return err
	}
	// Those that the chart has no more stay.
	had = had.Filter(wanted.Contains)
	if _, err := op.client.Update(had, wanted, false); err != nil {
		return err
	}
	if err := op.client.Wait(wanted, crdTimeout); err != nil {
		return err
	}
	op.client.mapper.Reset()
	return nil
}

func (op *operation) buildCRDs(c *chart.Chart) (kube.ResourceList, error) {
	var list kube.ResourceList
	for _, crd := range c.CRDObjects() {
		built, err := op.client.Client.Build(strings.NewReader(string(crd.File.Data)), false)
		if err != nil {
			return nil, fmt.Errorf("%s of the chart: %w", crd.Filename, err)
		}
		list = append(list, built...)
	}
	return list, nil
}

// withoutForeign leaves those out that are in the cluster by somebody else, as Helm does when it installs.
func (op *operation) withoutForeign(crds kube.ResourceList) (kube.ResourceList, error) {
	var own kube.ResourceList
	for _, info := range crds {
		owner, err := ownerOf(info)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("%s: %w", describe(info), err)
		case !owner.helm || owner.release != "" && owner.release != op.namespace+"/"+op.name:
			op.config.Log("leaving %s as it is, which is %s", describe(info), owner.words)
			continue
		}
		own.Append(info)
	}
	return own, nil
}

func (op *operation) checkManifest(rendered *Rendered) error {
	if !strings.Contains(rendered.Manifest, crdKind) {
		return nil
	}
	objects, err := rendered.Objects()
	if err != nil {
		return err
	}
	return op.checkCRDs(objects)
}

// checkCRDs compares the CustomResourceDefinitions among the objects with those in the cluster.
func (op *operation) checkCRDs(objects []*unstructured.Unstructured) error {
	config, err := op.config.RESTClientGetter.ToRESTConfig()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("client for the Kubernetes API: %w", err)
	}
	for _, wanted := range objects {
		if wanted.GetKind() != crdKind {
			continue
		}
		resources := client.Resource(wanted.GroupVersionKind().GroupVersion().WithResource("customresourcedefinitions"))
		live, err := resources.Get(op.ctx, wanted.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", crdKind, wanted.GetName(), err)
		}
		if err := CheckCRD(live, wanted); err != nil {
			return err
		}
	}
	return nil
}
