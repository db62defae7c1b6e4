package netpol_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/netpoltest"
)

// TestClassIsSound swaps ends of a class for each other in every role, and wants
// to see nothing of it.
func TestClassIsSound(t *testing.T) {
	t.Parallel()
	swapped := 0
	for seed := range uint64(100) {
		cluster := netpoltest.Random(seed, 12, 8)
		// Ends with less to tell than a real one has are ends too.
		cluster.Ends = append(cluster.Ends, netpol.Endpoint{}, netpol.Endpoint{Namespace: "x", Name: "bare"}, netpol.Endpoint{Namespace: "x", Name: "naked"})
		var options []netpol.Option
		if seed%2 == 1 {
			options = append(options, netpol.BlocksAreOutside())
		}
		policies, err := netpol.Compile(cluster.Policies, options...)
		if err != nil {
			t.Fatal(err)
		}
		for i, one := range cluster.Ends {
			for _, other := range cluster.Ends[:i] {
				if policies.Class(one) != policies.Class(other) {
					continue
				}
				swapped++
				for _, port := range cluster.Ports {
					checkSwap(t, policies, one, other, other, one, port)
					for _, third := range cluster.Ends {
						if third.Name != one.Name && third.Name != other.Name {
							checkSwap(t, policies, one, third, other, third, port)
							checkSwap(t, policies, third, one, third, other, port)
						}
					}
				}
				if t.Failed() {
					t.Fatalf("seed %d\n%s", seed, netpoltest.YAML(cluster.Policies, one, other))
				}
			}
		}
	}
	if swapped < 500 {
		t.Errorf("only %d pairs were of one class", swapped)
	}
}

func checkSwap(t *testing.T, policies *netpol.Policies, from, to, fromInstead, toInstead netpol.Endpoint, port netpol.Port) {
	t.Helper()
	verdict, instead := policies.Evaluate(from, to, port), policies.Evaluate(fromInstead, toInstead, port)
	if !reflect.DeepEqual(verdict, instead) {
		t.Errorf("%q to %q at %v: %+v, but %q to %q: %+v", from.Name, to.Name, port, verdict, fromInstead.Name, toInstead.Name, instead)
	}
}

// TestClassTellsApart is about what policies look at, and nothing else.
func TestClassTellsApart(t *testing.T) {
	t.Parallel()
	policies := compile(t, policy(t, "db", "p", `{podSelector: {matchLabels: {app: alpha}}, ingress: [
		{from: [{namespaceSelector: {matchLabels: {team: client}}, podSelector: {matchLabels: {role: reader}}}], ports: [{port: web}, {port: admin}]},
		{from: [{ipBlock: {cidr: 10.9.0.0/16}}]}]}`))
	base := pod("client/web")
	for name, test := range map[string]struct {
		change func(*netpol.Endpoint)
		apart  bool
	}{
		"name":                             {func(e *netpol.Endpoint) { e.Name = "other" }, false},
		"a label nobody asks for":          {func(e *netpol.Endpoint) { e.Labels = map[string]string{"x": "y"} }, false},
		"a label of the peer":              {func(e *netpol.Endpoint) { e.Labels = map[string]string{"role": "reader"} }, true},
		"a label in another namespace":     {func(e *netpol.Endpoint) { e.Labels = map[string]string{"app": "alpha"} }, false},
		"a namespace that is alike":        {func(e *netpol.Endpoint) { e.Namespace = "other" }, false},
		"a protected pod":                  {func(e *netpol.Endpoint) { e.Namespace, e.Labels = "db", map[string]string{"app": "alpha"} }, true},
		"an address":                       {func(e *netpol.Endpoint) { e.IPs = addresses("10.1.2.4") }, false},
		"an address in the block":          {func(e *netpol.Endpoint) { e.IPs = addresses("10.9.2.4") }, true},
		"an address as IPv6":               {func(e *netpol.Endpoint) { e.IPs = addresses("::ffff:10.1.2.3") }, false},
		"an address of both families":      {func(e *netpol.Endpoint) { e.IPs = addresses("10.1.2.3", "fd00::1") }, true},
		"the named port's number":          {func(e *netpol.Endpoint) { e.Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 80}} }, true},
		"the same number, named otherwise": {func(e *netpol.Endpoint) { e.Ports = []corev1.ContainerPort{{Name: "admin", ContainerPort: 8080}} }, true},
		"another container's same port":    {func(e *netpol.Endpoint) { e.Ports = append(e.Ports[1:2:2], e.Ports[0], e.Ports[0]) }, false},
		"the number of another port":       {func(e *netpol.Endpoint) { e.Ports = e.Ports[:1] }, false},
		"the node's network":               {func(e *netpol.Endpoint) { e.HostNetwork = true }, true},
	} {
		changed := base
		test.change(&changed)
		if apart := policies.Class(base) != policies.Class(changed); apart != test.apart {
			t.Errorf("%s: told apart is %t, want %t", name, apart, test.apart)
		}
	}
}

func addresses(texts ...string) []netip.Addr {
	ips := make([]netip.Addr, len(texts))
	for i, text := range texts {
		ips[i] = netip.MustParseAddr(text)
	}
	return ips
}

// BenchmarkMatrix is a cluster of a thousand pods under two hundred policies:
// compiling, sorting the pods into classes, and every class against every other.
func BenchmarkMatrix(b *testing.B) {
	for _, replicas := range []int{10, 1} {
		b.Run(fmt.Sprintf("replicas=%d", replicas), func(b *testing.B) {
			cluster := bigCluster(1000, replicas, 200)
			port := tcp(8080)
			b.ReportAllocs()
			for b.Loop() {
				policies, err := netpol.Compile(cluster.Policies)
				if err != nil {
					b.Fatal(err)
				}
				classes := map[string]netpol.Endpoint{}
				for _, end := range cluster.Ends {
					classes[policies.Class(end)] = end
				}
				for _, from := range classes {
					for _, to := range classes {
						policies.Evaluate(from, to, port)
					}
				}
				b.ReportMetric(float64(len(classes)), "classes")
			}
		})
	}
}

// bigCluster joins small ones, each of three namespaces, until there are enough
// pods, with so many alike, and policies.
func bigCluster(pods, replicas, policies int) netpoltest.Cluster {
	var cluster netpoltest.Cluster
	for seed := uint64(0); len(cluster.Ends) < pods || len(cluster.Policies) < policies; seed++ {
		part := netpoltest.Random(seed, 50/replicas, 20)
		for _, end := range part.Ends {
			if end.Namespace == "" {
				continue
			}
			end.Namespace = fmt.Sprintf("%s-%d", end.Namespace, seed)
			for replica := range min(replicas, pods-len(cluster.Ends)) {
				twin := end
				twin.Name = fmt.Sprintf("%s-%d", end.Name, replica)
				cluster.Ends = append(cluster.Ends, twin)
			}
		}
		for _, policy := range part.Policies[:min(len(part.Policies), policies-len(cluster.Policies))] {
			policy.Namespace = fmt.Sprintf("%s-%d", policy.Namespace, seed)
			cluster.Policies = append(cluster.Policies, policy)
		}
	}
	return cluster
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	policies := compile(t,
		policy(t, "db", "in", `{podSelector: {}, ingress: [{}, {from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.1/8, except: [10.1.0.0/16]}}]}]}`),
		policy(t, "db", "out", `{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: "fd00::/64"}}]}], ingress: [{from: [{ipBlock: {cidr: 11.0.0.0/8}}]}]}`))
	got := policies.Networks()
	slices.SortFunc(got, netip.Prefix.Compare)
	// No policy of type ingress has the block that is left out.
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64")}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
