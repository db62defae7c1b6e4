package cluster

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/namespaces"
)

// The networks of an AKS cluster with the defaults of Azure CNI Overlay.
const (
	serviceNetwork     = "10.0.0.0/16"
	apiServerClusterIP = "10.0.0.1"
	// advertisedAddress is what the Service "kubernetes" leads to. It must not
	// be a loopback address, so it is one of those kept for documentation.
	advertisedAddress = "192.0.2.1"
)

// Files below the state directory.
const (
	egressSocket         = "egress.sock"
	egressFile           = "egress.yaml"
	auditPolicyFile      = "audit-policy.yaml"
	auditLogFile         = "audit.log"
	schedulerFile        = "scheduler.yaml"
	serviceAccountIssuer = "https://kubernetes.default.svc.cluster.local"
)

// admissionPlugins are those that AKS runs beyond the defaults of Kubernetes,
// from "What Kubernetes admission controllers does AKS support?" in its FAQ.
// The others listed there are defaults.
var admissionPlugins = []string{"ExtendedResourceToleration", "PodNodeSelector", "PodTolerationRestriction"}

// auditPolicy records every request once, when it is answered; never what is
// in secrets or tokens.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
`

// egressConfiguration sends connections to Services and pods to the proxy at %s.
const egressConfiguration = `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport:
      uds:
        udsName: %s
`

// schedulerConfiguration gives the scheduler the kubeconfig at %s and shortens
// the time after which it tries an unschedulable pod again.
const schedulerConfiguration = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection:
  leaderElect: false
clientConnection:
  kubeconfig: %s
  qps: 10000
  burst: 10000
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 1
`

// writeConfigurations writes the configuration files of the processes.
func (c *Cluster) writeConfigurations() error {
	for name, content := range map[string]string{
		egressFile:      fmt.Sprintf(egressConfiguration, strconv.Quote(c.path(egressSocket))),
		auditPolicyFile: auditPolicy,
		schedulerFile:   fmt.Sprintf(schedulerConfiguration, strconv.Quote(c.path("kube-scheduler.kubeconfig"))),
	} {
		if err := os.WriteFile(c.path(name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

// apiServerArguments returns the command line of kube-apiserver.
func (c *Cluster) apiServerArguments(credentials *credentials) []string {
	arguments := []string{
		"--etcd-servers=" + c.etcd.endpoint(),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.port.port),
		// The port is shared with the reservation that keeps it free for this child.
		"--permit-port-sharing=true",
		"--advertise-address=" + advertisedAddress,
		"--external-hostname=127.0.0.1",
		"--service-cluster-ip-range=" + serviceNetwork,
		"--tls-cert-file=" + credentials.path(serverFile),
		"--tls-private-key-file=" + credentials.path(serverKeyFile),
		"--client-ca-file=" + credentials.path(caFile),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=" + strings.Join(admissionPlugins, ","),
		"--allow-privileged=true",
		"--service-account-issuer=" + serviceAccountIssuer,
		"--service-account-key-file=" + credentials.path(serviceAccountPublicKey),
		"--service-account-signing-key-file=" + credentials.path(serviceAccountKeyFile),
		"--requestheader-client-ca-file=" + credentials.path(frontProxyCAFile),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + credentials.path(frontProxyFile),
		"--proxy-client-key-file=" + credentials.path(frontProxyKeyFile),
		"--egress-selector-config-file=" + c.path(egressFile),
		// All clients share one machine: limits would only make tests slow.
		"--enable-priority-and-fairness=false",
		"--max-requests-inflight=0",
		"--max-mutating-requests-inflight=0",
		"--profiling=false",
	}
	if c.options.AuditLog {
		c.info.AuditLog = c.path(auditLogFile)
		arguments = append(arguments,
			"--audit-policy-file="+c.path(auditPolicyFile),
			"--audit-log-path="+c.info.AuditLog,
			// A request is in the log before its answer is sent.
			"--audit-log-mode=blocking",
			// In megabytes: no rotation.
			"--audit-log-maxsize=100000",
		)
	}
	return arguments
}

// controllerManagerArguments returns the command line of kube-controller-manager.
func (c *Cluster) controllerManagerArguments(credentials *credentials) []string {
	arguments := []string{
		"--kubeconfig=" + c.path("kube-controller-manager.kubeconfig"),
		"--secure-port=0",
		"--leader-elect=false",
		"--profiling=false",
		"--use-service-account-credentials=false",
		"--service-account-private-key-file=" + credentials.path(serviceAccountKeyFile),
		"--root-ca-file=" + credentials.path(caFile),
		"--cluster-signing-cert-file=" + credentials.path(caFile),
		"--cluster-signing-key-file=" + credentials.path(caKeyFile),
		// Simulated volumes are never attached, and waiting for it would hold up their pods.
		"--controllers=*,-persistentvolume-attach-detach-controller,-" + namespaces.Controller,
		"--pvclaimbinder-sync-period=2s",
		"--kube-api-qps=10000",
		"--kube-api-burst=10000",
	}
	for _, workers := range []string{
		"concurrent-cron-job-syncs", "concurrent-daemonset-syncs", "concurrent-deployment-syncs", "concurrent-endpoint-syncs",
		"concurrent-job-syncs", "concurrent-namespace-syncs", "concurrent-replicaset-syncs", "concurrent-service-endpoint-syncs",
		"concurrent-serviceaccount-token-syncs", "concurrent-statefulset-syncs",
	} {
		arguments = append(arguments, "--"+workers+"=20")
	}
	return arguments
}

// schedulerArguments returns the command line of kube-scheduler.
func (c *Cluster) schedulerArguments() []string {
	return []string{"--config=" + c.path(schedulerFile), "--secure-port=0", "--profiling=false"}
}
