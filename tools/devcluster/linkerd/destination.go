package linkerd

// This file stands in for the two validators in Linkerd's destination pods (linkerd2 controller/sp-validator, policy-controller).

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/program"
)

// destination answers the webhooks that validate ServiceProfiles and policies.
// Discovery has nobody to serve.
type destination struct {
	lag time.Duration
}

func (destination) Name() string { return "linkerd-destination" }

func (destination) Runs(pod *corev1.Pod) bool {
	return runs(pod, destinationComponent, "destination")
}

// Start serves both webhooks of the pod.
func (p destination) Start(ctx context.Context, env program.Env, pod *corev1.Pod) (program.Instance, error) {
	c, err := newClients(env, pod)
	if err != nil {
		return nil, err
	}
	return start(func(i *instance) error { return p.run(ctx, i, c, env.Log, pod) })
}

func (p destination) run(ctx context.Context, i *instance, c *clients, log *slog.Logger, pod *corev1.Pod) error {
	if err := c.awaitIdentity(ctx); err != nil {
		return err
	}
	err := i.serveWebhook(ctx, c, log, webhookServer{
		port: 8443, secret: volumeSource(pod, "sp-tls"), lag: p.lag, answer: validating(validateServiceProfile),
	})
	if err != nil {
		return fmt.Errorf("container sp-validator: %w", err)
	}
	err = i.serveWebhook(ctx, c, log, webhookServer{
		port: 9443, secret: volumeSource(pod, "policy-tls"), lag: p.lag, checkKey: checkRustlsKey,
		answer: validating(policyValidator{c.policies}.validate),
	})
	if err != nil {
		return fmt.Errorf("container policy: %w", err)
	}
	return nil
}
