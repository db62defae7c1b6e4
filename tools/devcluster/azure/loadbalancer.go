package azure

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// balance gives a Service of the type LoadBalancer the address that a load
// balancer would have, and takes it back when the type changes. Nothing
// listens there.
func (c *cloud) balance(ctx context.Context, object any) error {
	service, ok := object.(*corev1.Service)
	if !ok || service.DeletionTimestamp != nil {
		return nil
	}
	wanted := service.Spec.Type == corev1.ServiceTypeLoadBalancer
	if wanted == (len(service.Status.LoadBalancer.Ingress) > 0) {
		return nil
	}
	changed := service.DeepCopy()
	changed.Status.LoadBalancer.Ingress = nil
	if wanted {
		address, err := externalAddress(service.Spec.ClusterIP)
		if err != nil {
			return fmt.Errorf("balance Service %s/%s: %w", service.Namespace, service.Name, err)
		}
		changed.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	}
	_, err := c.client.CoreV1().Services(service.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	// A newer version of the object causes an event of its own.
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("balance Service %s/%s: %w", service.Namespace, service.Name, err)
	}
	return nil
}

// externalAddress maps a cluster IP, which is unique, into the range that is
// kept for network tests.
func externalAddress(clusterIP string) (string, error) {
	address, err := netip.ParseAddr(clusterIP)
	if err != nil {
		return "", err
	}
	if !address.Is4() {
		return "", fmt.Errorf("cluster IP %s is not an IPv4 address", clusterIP)
	}
	octets := address.As4()
	return netip.AddrFrom4([4]byte{198, 18, octets[2], octets[3]}).String(), nil
}
