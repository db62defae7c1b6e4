package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
)

// summary reads back from the cluster what the walkthrough has made of it.
type summary struct {
	client kubernetes.Interface
	story  walkthrough
	now    time.Time
	out    *tabwriter.Writer
}

func summarise(ctx context.Context, client kubernetes.Interface, story walkthrough, out io.Writer) error {
	s := summary{client: client, story: story, now: time.Now(), out: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}

	for _, section := range []func(context.Context) error{s.certificates, s.controlPlane, s.meshedPods, s.policies, s.reach} {
		if err := section(ctx); err != nil {
			return err
		}
	}

	return s.out.Flush()
}

func (s summary) certificates(ctx context.Context) error {
	fmt.Fprintln(s.out, "Certificates")

	anchors, issuer, err := s.story.certificates(ctx, s.client)
	if err != nil {
		return err
	}

	bundle, err := pki.ParseBundle(anchors)
	if err != nil {
		return fmt.Errorf("trust bundle: %w", err)
	}

	for _, anchor := range bundle.Certificates() {
		s.certificate("trust anchor", anchor.Subject.CommonName, anchor.NotAfter)
	}

	certificate, err := pki.ParseCertificate(issuer)
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}

	s.certificate("issuer", certificate.Subject.CommonName, certificate.NotAfter)

	return nil
}

func (s summary) certificate(role, name string, notAfter time.Time) {
	fmt.Fprintf(s.out, "  %s\t%s\tvalid until %s (%d days)\n",
		role, name, notAfter.Format(time.DateOnly), int(notAfter.Sub(s.now).Hours()/24))
}

func (s summary) controlPlane(ctx context.Context) error {
	fmt.Fprintf(s.out, "Control plane in namespace %s\n", s.story.controlPlane)

	deployments, err := s.client.AppsV1().Deployments(s.story.controlPlane).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the control plane: %w", err)
	}

	for _, d := range deployments.Items {
		fmt.Fprintf(s.out, "  %s\t%d of %d available\n", d.Name, d.Status.AvailableReplicas, d.Status.Replicas)
	}

	return nil
}

func (s summary) meshedPods(ctx context.Context) error {
	fmt.Fprintln(s.out, "Meshed pods")

	for _, namespace := range []string{databaseNamespace, insideNamespace, outsideNamespace} {
		living, err := s.pods(ctx, namespace)
		if err != nil {
			return err
		}

		fmt.Fprintf(s.out, "  %s\t%d of %d\n", namespace, countMeshed(s.story.mesh, living), len(living))
	}

	return nil
}

func countMeshed(m mesh.Mesh, pods []corev1.Pod) int {
	meshed := 0

	for i := range pods {
		if m.Proxy(&pods[i]).Mode != "" {
			meshed++
		}
	}

	return meshed
}

// pods lists the pods of a namespace that are not on their way out.
func (s summary) pods(ctx context.Context, namespace string) ([]corev1.Pod, error) {
	pods, err := s.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", namespace, err)
	}

	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil }), nil
}

func (s summary) policies(ctx context.Context) error {
	fmt.Fprintln(s.out, "Network policies")

	policies, err := s.client.NetworkingV1().NetworkPolicies(databaseNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the network policies: %w", err)
	}

	for _, policy := range policies.Items {
		fmt.Fprintf(s.out, "  %s/%s\t%s\t%s\n", policy.Namespace, policy.Name,
			labelled("pods", &policy.Spec.PodSelector), describeIngress(policy.Spec.Ingress))
	}

	return nil
}

// errStory means that the policies do not do what the walkthrough tells.
var errStory = errors.New("the policies do not keep clients apart")

// reach works out, by the policies that are in the cluster, who reaches Dgraph's
// HTTP and gRPC ports: the client in the mesh has to, the other must not. The
// embedded cluster has no network on which to try it.
func (s summary) reach(ctx context.Context) error {
	fmt.Fprintln(s.out, "Who reaches Dgraph Alpha, by these policies")

	policies, err := s.client.NetworkingV1().NetworkPolicies(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the network policies: %w", err)
	}

	pointers := make([]*networkingv1.NetworkPolicy, len(policies.Items))
	for i := range policies.Items {
		pointers[i] = &policies.Items[i]
	}

	compiled, err := netpol.Compile(pointers)
	if err != nil {
		return fmt.Errorf("read the network policies: %w", err)
	}

	databases, err := s.pods(ctx, databaseNamespace)
	if err != nil {
		return err
	}

	alpha := slices.IndexFunc(databases, func(p corev1.Pod) bool { return p.Labels["component"] == "alpha" })
	if alpha < 0 {
		return fmt.Errorf("%w: there is no Dgraph Alpha", errStory)
	}

	for _, namespace := range []string{insideNamespace, outsideNamespace} {
		expected, verdict := namespace == insideNamespace, "does not"
		if expected {
			verdict = "does"
		}

		clients, err := s.pods(ctx, namespace)
		if err != nil {
			return err
		}

		for i := range clients {
			for _, port := range []int32{8080, 9080} {
				if verdict := s.reaches(compiled, &clients[i], &databases[alpha], port); verdict.Allowed != expected {
					return fmt.Errorf("%w: client %s/%s on port %d: allowed is %t: %s",
						errStory, namespace, clients[i].Name, port, verdict.Allowed, verdict.Reason())
				}
			}
		}

		fmt.Fprintf(s.out, "  %s\t%s\n", namespace, verdict)
	}

	return nil
}

// reaches tells whether a client may open a connection to a port of a meshed pod.
func (s summary) reaches(policies *netpol.Policies, client, server *corev1.Pod, port int32) netpol.Verdict {
	if s.story.arrival != 0 && s.story.mesh.Proxy(client).Mode != "" {
		port = s.story.arrival
	}

	return policies.Evaluate(netpol.PodEndpoint(nil, client), netpol.PodEndpoint(nil, server),
		netpol.Port{Protocol: corev1.ProtocolTCP, Number: port})
}

// describeIngress says what a policy admits: who, and on which ports.
func describeIngress(rules []networkingv1.NetworkPolicyIngressRule) string {
	admitted := make([]string, 0, len(rules))

	for _, rule := range rules {
		ports := "every port"

		if len(rule.Ports) > 0 {
			names := make([]string, len(rule.Ports))
			for i, port := range rule.Ports {
				names[i] = port.Port.String()
			}

			ports = strings.Join(names, ",")
		}

		peers := "everyone"

		if len(rule.From) > 0 {
			names := make([]string, len(rule.From))
			for i, peer := range rule.From {
				names[i] = describePeer(peer)
			}

			peers = strings.Join(names, " or ")
		}

		admitted = append(admitted, ports+" from "+peers)
	}

	if len(admitted) == 0 {
		return "admits nothing"
	}

	return "admits " + strings.Join(admitted, "; ")
}

func describePeer(peer networkingv1.NetworkPolicyPeer) string {
	var parts []string
	if peer.PodSelector != nil {
		parts = append(parts, labelled("pods", peer.PodSelector))
	}

	if peer.NamespaceSelector != nil {
		parts = append(parts, labelled("namespaces", peer.NamespaceSelector))
	}

	if peer.IPBlock != nil {
		parts = append(parts, peer.IPBlock.CIDR)
	}

	return strings.Join(parts, " in ")
}

// labelled says which of the things a selector selects; an empty one selects all.
func labelled(things string, selector *metav1.LabelSelector) string {
	if len(selector.MatchLabels) == 0 && len(selector.MatchExpressions) == 0 {
		return "all " + things
	}

	return things + " " + metav1.FormatLabelSelector(selector)
}
