package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// holder names the release among the holders of a namespace: its own name can
// be longer than a holder's may.
func (r *Release) holder() string {
	sum := sha256.Sum256([]byte(r.id()))
	return "release-" + hex.EncodeToString(sum[:])[:16]
}

func (r *Release) hold(e *entry, force bool) kube.Hold {
	return kube.Hold{
		Namespace: e.Object.GetName(), Holder: r.holder(), Force: force,
		Labels: e.Object.GetLabels(), Annotations: e.Object.GetAnnotations(),
	}
}

// Why a namespace stays.
const (
	holdsRelease = "the release is in it"
	ifEmpty      = "if nothing else is in it and nobody else holds it"
)

// leaveNamespace gives a namespace up, which goes if the release or another
// holder has made it, nobody else holds it, and nothing is left in it that would
// be missed. That of a release that stays is only given up. It says why the
// namespace is kept.
func (r *Release) leaveNamespace(ctx context.Context, e *entry, staying bool) (kept string, err error) {
	name := e.Object.GetName()
	switch {
	case e.keep():
		kept = policyAnnotation + " says so"
	case staying && name == r.namespace:
		kept = holdsRelease
	default:
		missed, err := r.missedIn(ctx, name)
		if err != nil {
			return "", fmt.Errorf("see what is left in Namespace %s before it is deleted: %w", name, err)
		}
		if len(missed) == 0 {
			return "", r.releases.Cluster.ReleaseNamespace(ctx, name, r.holder())
		}
		const most = 5
		if more := len(missed) - most; more > 0 {
			missed = append(missed[:most], fmt.Sprintf("%d more", more))
		}
		kept = "it holds " + strings.Join(missed, ", ")
	}
	_, err = r.releases.Cluster.Release(ctx, e.ref(), r.hold(e, false).Manager())
	if errors.Is(err, kube.ErrNotFound) {
		return "", nil
	}
	return kept, err
}

// missedKinds are the kinds of which somebody would miss objects.
func missedKinds() []kube.Kind {
	return []kube.Kind{
		persistentVolumeClaim, kube.StatefulSet, kube.Deployment, kube.DaemonSet, kube.ReplicaSet,
		kube.CronJob, kube.Job, kube.Pod, kube.Service, kube.ConfigMap, kube.Secret,
	}
}

// missedIn names the objects in a namespace that would be missed if it went. Of
// Secrets, as of all others, only metadata is read.
func (r *Release) missedIn(ctx context.Context, namespace string) ([]string, error) {
	client, err := metadata.NewForConfig(r.releases.Cluster.RESTConfig())
	if err != nil {
		return nil, err
	}
	kinds := missedKinds()
	found := make([][]string, len(kinds))
	err = inParallel(len(kinds), func(i int) error {
		list, err := client.Resource(kinds[i].GVR()).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for at := range list.Items {
			if r.missed(kinds[i], &list.Items[at]) {
				found[i] = append(found[i], kinds[i].Name+" "+list.Items[at].Name)
			}
		}
		return nil
	})
	return slices.Concat(found...), r.releases.Cluster.Explained(ctx, err)
}

// missed reports objects that neither go by themselves nor come with every
// namespace nor are left of hooks.
func (r *Release) missed(kind kube.Kind, o metav1.Object) bool {
	if o.GetDeletionTimestamp() != nil {
		return false
	}
	if owner := metav1.GetControllerOf(o); owner != nil &&
		slices.ContainsFunc(missedKinds(), func(k kube.Kind) bool { return k.Name == owner.Kind }) {
		return false
	}
	annotations := o.GetAnnotations()
	if annotations[Annotation] != "" && annotations[hookAnnotation] != "" {
		return false // Hooks that have run are left behind.
	}
	switch kind {
	case kube.ConfigMap: // Root certificates that controllers put everywhere.
		return !slices.Contains([]string{"kube-root-ca.crt", "istio-ca-root-cert", "istio-ca-crl"}, o.GetName())
	case kube.Secret:
		record := recordRef(r.namespace, r.name)
		return annotations["kubernetes.io/service-account.name"] == "" &&
			(o.GetNamespace() != record.Namespace || o.GetName() != record.Name)
	}
	return true
}
