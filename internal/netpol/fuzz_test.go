package netpol_test

import (
	"net/netip"
	"reflect"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/netpol/netpoltest"
)

// FuzzEvaluate reads policies that anybody may have written, and asks them about
// any address and port: whatever compiles answers, the same twice, and has no say
// in where it is not of the pod's namespace.
func FuzzEvaluate(f *testing.F) {
	for seed := range uint64(16) {
		for _, policy := range netpoltest.Random(seed, 0, 8).Policies {
			text, err := yaml.Marshal(policy.Spec)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text, netip.MustParseAddr("10.1.0.1").AsSlice(), int32(8080))
		}
	}
	f.Fuzz(func(t *testing.T, text, ip []byte, number int32) {
		var object networkingv1.NetworkPolicy
		if err := yaml.Unmarshal(text, &object.Spec); err != nil {
			return
		}
		object.Namespace, object.Name = "db", "p"
		policies, err := netpol.Compile([]*networkingv1.NetworkPolicy{&object})
		if err != nil {
			if policies != nil {
				t.Errorf("both an error and policies: %v", err)
			}
			return
		}
		var outside netpol.Endpoint
		if address, valid := netip.AddrFromSlice(ip); valid {
			outside.IPs = []netip.Addr{address}
		}
		inside, elsewhere := pod("db/alpha"), pod("client/web")
		port := tcp(number)
		for _, ends := range [][2]netpol.Endpoint{{outside, inside}, {inside, outside}, {elsewhere, inside}, {inside, elsewhere}} {
			verdict := policies.Evaluate(ends[0], ends[1], port)
			if verdict.Reason() == "" || verdict.Allowed != (verdict.Egress.Allowed && verdict.Ingress.Allowed) {
				t.Errorf("%+v because %q", verdict, verdict.Reason())
			}
			if again := policies.Evaluate(ends[0], ends[1], port); !reflect.DeepEqual(verdict, again) {
				t.Errorf("%+v, and then %+v", verdict, again)
			}
			policies.Class(ends[0])
		}
		if verdict := policies.Evaluate(outside, elsewhere, port); len(verdict.Egress.Policies)+len(verdict.Ingress.Policies) > 0 {
			t.Errorf("%+v by a policy of another namespace", verdict)
		}
	})
}
