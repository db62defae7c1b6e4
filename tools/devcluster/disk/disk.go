// Package disk simulates the Azure Disk storage of an AKS cluster: its storage
// classes, and volumes that exist as soon as a pod that claims one is scheduled.
package disk

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	driver    = "disk.csi.azure.com"
	zoneLabel = "topology.disk.csi.azure.com/zone"

	// The annotations by which the control plane orders a volume.
	provisionerAnnotation  = "volume.kubernetes.io/storage-provisioner"
	selectedNodeAnnotation = "volume.kubernetes.io/selected-node"
	provisionedAnnotation  = "pv.kubernetes.io/provisioned-by"

	// retryInterval is how often claims and volumes are looked at again
	// without an event, which is how failed calls are repeated.
	retryInterval = 2 * time.Second
)

// A provisioner makes volumes out of nothing.
type provisioner struct {
	client kubernetes.Interface
	log    *slog.Logger
}

// Start creates the storage classes and provisions and deletes volumes until
// ctx ends.
func Start(ctx context.Context, client kubernetes.Interface, log *slog.Logger) error {
	if err := createClasses(ctx, client); err != nil {
		return err
	}
	p := &provisioner{client: client, log: log}
	shared := informers.NewSharedInformerFactory(client, retryInterval)
	core := shared.Core().V1()
	for kind, watch := range map[string]struct {
		informer cache.SharedIndexInformer
		handle   func(context.Context, any) error
	}{
		"PersistentVolumeClaim": {core.PersistentVolumeClaims().Informer(), p.provision},
		"PersistentVolume":      {core.PersistentVolumes().Informer(), p.remove},
	} {
		handle := func(object any) {
			if err := watch.handle(ctx, object); err != nil && ctx.Err() == nil {
				p.log.Warn("volume provisioning failed", "error", err)
			}
		}
		_, err := watch.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    handle,
			UpdateFunc: func(_, object any) { handle(object) },
		})
		if err != nil {
			return fmt.Errorf("watch %ss: %w", kind, err)
		}
	}
	shared.Start(ctx.Done())
	return nil
}

// createClasses creates the storage classes that AKS provides.
func createClasses(ctx context.Context, client kubernetes.Interface) error {
	for name, sku := range map[string]string{
		"default":             "StandardSSD_LRS",
		"managed-csi":         "StandardSSD_LRS",
		"managed-csi-premium": "Premium_LRS",
	} {
		class := &storagev1.StorageClass{
			ObjectMeta:           metav1.ObjectMeta{Name: name},
			Provisioner:          driver,
			Parameters:           map[string]string{"skuname": sku},
			ReclaimPolicy:        new(corev1.PersistentVolumeReclaimDelete),
			VolumeBindingMode:    new(storagev1.VolumeBindingWaitForFirstConsumer),
			AllowVolumeExpansion: new(true),
		}
		if name == "default" {
			class.Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
		}
		if _, err := client.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create StorageClass %s: %w", name, err)
		}
	}
	return nil
}

// provision creates the volume that the Azure Disk driver would create for a
// claim whose pod has a node. The control plane binds the two.
func (p *provisioner) provision(ctx context.Context, object any) error {
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	if !ok || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil ||
		claim.Annotations[provisionerAnnotation] != driver || claim.Annotations[selectedNodeAnnotation] == "" {
		return nil
	}
	node, err := p.client.CoreV1().Nodes().Get(ctx, claim.Annotations[selectedNodeAnnotation], metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("provision PersistentVolumeClaim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	name := "pvc-" + string(claim.UID)
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{provisionedAnnotation: driver},
		},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName:              *claim.Spec.StorageClassName,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: name},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{
						Key: zoneLabel, Operator: corev1.NodeSelectorOpIn, Values: []string{node.Labels[zoneLabel]},
					}},
				}},
			}},
		},
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create PersistentVolume %s: %w", name, err)
	}
	return nil
}

// remove deletes a volume whose claim is gone.
func (p *provisioner) remove(ctx context.Context, object any) error {
	volume, ok := object.(*corev1.PersistentVolume)
	if !ok || volume.Status.Phase != corev1.VolumeReleased || volume.DeletionTimestamp != nil ||
		volume.Annotations[provisionedAnnotation] != driver ||
		volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
		return nil
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete PersistentVolume %s: %w", volume.Name, err)
	}
	return nil
}
