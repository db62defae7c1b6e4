package rotation

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"testing/quick"
	"time"
)

// before is a mesh of one anchor, A, from which B is to take over.
func before() View {
	a := Anchors{"A"}
	return View{
		Wanted: Anchors{"B"}, Signer: "B", Published: a, Issuer: Issuer{Anchor: "A"},
		Planes: []Plane{{Name: "linkerd/identity", Bundle: a, Issuer: "A"}, {Name: "linkerd/injector", Bundle: a}},
		Proxies: []Proxy{
			{Name: "linkerd/identity", Trusts: a, MayTrust: a, Presents: a},
			{Name: "shop/cart", Trusts: a, MayTrust: a, Presents: a},
		},
	}
}

func TestStagesOfWhatIsToBeDone(t *testing.T) {
	t.Parallel()
	whole := []Stage{Spread, Teach, Switch, Renew, Drop, Forget}
	both := Anchors{"A", "B"}
	for name, c := range map[string]struct {
		change func(*View)
		stages []Stage
	}{
		"a rotation":                       {func(*View) {}, whole},
		"nothing":                          {func(v *View) { v.Wanted, v.Signer = Anchors{"A"}, "A" }, nil},
		"an anchor beside":                 {func(v *View) { v.Wanted, v.Signer = both, "A" }, []Stage{Spread, Teach}},
		"a signer that is not wanted":      {func(v *View) { v.Wanted = nil }, whole},
		"a control plane without a mesh":   {func(v *View) { v.Proxies = nil }, []Stage{Spread, Switch, Drop}},
		"a control plane only":             {func(v *View) { v.Proxies = v.Proxies[:1] }, []Stage{Spread, Switch, Renew, Drop}},
		"a pod that leaves only":           {func(v *View) { v.Proxies = v.Proxies[1:]; v.Proxies[0].Leaving = true }, []Stage{Spread, Teach, Switch, Drop}},
		"nobody":                           {func(v *View) { v.Proxies, v.Planes = nil, nil }, []Stage{Spread, Switch, Drop}},
		"an issuer that ends":              {func(v *View) { v.Issuer.Ending, v.Issuer.Renewable = true, true }, append([]Stage{Extend}, whole...)},
		"an issuer that ends for good":     {func(v *View) { v.Issuer.Ending = true }, whole},
		"an expired issuer":                {func(v *View) { v.Issuer.Down = true }, []Stage{Recover, Spread, Teach}},
		"an expired one that can be again": {func(v *View) { v.Issuer.Down, v.Issuer.Renewable = true, true }, append([]Stage{Recover}, whole...)},
		"no issuer":                        {func(v *View) { v.Issuer = Issuer{} }, whole},
		"an expired issuer when all trust the new anchor": {func(v *View) {
			v.Issuer.Down, v.Published = true, both
			for i := range v.Proxies {
				v.Proxies[i].Trusts, v.Proxies[i].MayTrust = both, both
			}
		}, []Stage{Recover, Spread, Drop, Forget}},
		"an anchor taken out that is in use": {func(v *View) {
			v.Wanted, v.Signer, v.Published = Anchors{"A"}, "A", Anchors{"B"}
		}, []Stage{Spread, Drop}},
		"what has been published before": {func(v *View) {
			v.Wanted, v.Signer, v.Proxies = Anchors{"A"}, "A", v.Proxies[:1]
			v.Planes, v.Proxies[0].Presents = []Plane{{Name: "linkerd/identity", Bundle: both, Issuer: "A"}}, both
		}, []Stage{Spread, Drop}},
		"one taken out with nobody there, while somebody may come": {func(v *View) {
			v.Published, v.Proxies = Anchors{"B"}, nil
		}, []Stage{Spread, Switch, Drop}},
	} {
		v := before()
		c.change(&v)
		if got := Stages(v); !slices.Equal(got, c.stages) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	both := Anchors{"A", "B"}
	later := time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)
	ready := func() View {
		v := before()
		v.Published, v.Planes = both, []Plane{{Name: "linkerd/identity", Bundle: both, Issuer: "A"}}
		v.Proxies = nil
		for _, name := range []string{"shop/cart", "shop/till", "shop/stock"} {
			v.Proxies = append(v.Proxies, Proxy{Name: name, Trusts: both, MayTrust: both, Presents: Anchors{"A"}})
		}
		return v
	}
	for name, c := range map[string]struct {
		change  func(*View)
		restart bool
		want    Decision
	}{
		"nothing": {func(*View) {}, false, Decision{Step: Issue, Stage: Switch, Anchor: "B", Reason: "all pods trust anchor B"}},
		"a pod of the control plane that leaves": {func(v *View) {
			v.Planes = append(v.Planes, Plane{Name: "linkerd/identity-1", Bundle: Anchors{"A"}, Issuer: "A", Leaving: true})
		}, true, Decision{Step: Wait, Stage: Spread, Proxies: []string{"linkerd/identity-1"}, Reason: "former pods of the control plane are on their way out: linkerd/identity-1"}},
		"pods that may still appear": {func(v *View) { v.Admitting = later }, true, Decision{Step: Wait, Stage: Switch, Until: later, Reason: "pods may still appear that were admitted before the control plane had read what is published"}},
		"a Job":                      {func(v *View) { v.Proxies[1].Trusts, v.Proxies[1].Fixed = Anchors{"A"}, "made by Job shop/till" }, true, Decision{Step: Wait, Stage: Teach, Proxies: []string{"shop/till"}, Blocked: true, Reason: "2 of 3 pods trust anchors B, A; no restart reaches shop/till: made by Job shop/till"}},
		"a Job that asks again": {func(v *View) {
			v.Proxies[1].Trusts, v.Proxies[1].Fixed, v.Proxies[1].Learns = Anchors{"A"}, "a Job", later
		}, true, Decision{Step: Wait, Stage: Teach, Proxies: []string{"shop/till"}, Until: later, Reason: "2 of 3 pods trust anchors B, A; the others do by 2030-01-02T00:00:00Z: shop/till"}},
		"a pod that leaves":              {func(v *View) { v.Proxies[2].Trusts, v.Proxies[2].Leaving = Anchors{"A"}, true }, true, Decision{Step: Wait, Stage: Teach, Proxies: []string{"shop/stock"}, Reason: "2 of 3 pods trust anchors B, A; on their way out: shop/stock"}},
		"nothing, if it may restart":     {func(v *View) { v.Proxies[0].Trusts, v.Proxies[0].Learns = Anchors{"A"}, later }, true, Decision{Step: RestartDataPlane, Stage: Teach, Proxies: []string{"shop/cart"}, Reason: "2 of 3 pods trust anchors B, A"}},
		"a renewal":                      {func(v *View) { v.Proxies[0].Trusts, v.Proxies[0].Learns = Anchors{"A"}, later }, false, Decision{Step: Wait, Stage: Teach, Proxies: []string{"shop/cart"}, Until: later, Reason: "2 of 3 pods trust anchors B, A; the others do by 2030-01-02T00:00:00Z: shop/cart"}},
		"nothing, if waiting is in vain": {func(v *View) { v.Proxies[0].Trusts = Anchors{"A"} }, false, Decision{Step: RestartDataPlane, Stage: Teach, Proxies: []string{"shop/cart"}, Reason: "2 of 3 pods trust anchors B, A"}},
		"nothing, where somebody has cut off a pod that can be made anew": {func(v *View) {
			v.Issuer.Anchor, v.Planes[0].Issuer, v.Proxies[1].Trusts = "B", "B", Anchors{"B"}
		}, false, Decision{Step: RestartDataPlane, Stage: Teach, Proxies: []string{"shop/till"}, Reason: "2 of 3 pods trust anchors B, A"}},
	} {
		v := ready()
		c.change(&v)
		if got := Next(v, c.restart); !reflect.DeepEqual(got, c.want) {
			t.Errorf("waits for %s: %+v", name, got)
		}
	}
}

// nonsense makes views of whatever.
type nonsense struct{ *rand.Rand }

func (n nonsense) anchors() Anchors {
	var all Anchors
	for range n.IntN(4) {
		all = append(all, n.anchor())
	}
	return all
}

func (n nonsense) anchor() Anchor {
	if n.IntN(8) == 0 {
		return ""
	}
	return Anchor(rune('A' + n.IntN(4)))
}

func (n nonsense) time() time.Time {
	if n.IntN(2) == 0 {
		return time.Time{}
	}
	return time.Unix(n.Int64N(1e6), 0)
}

func (n nonsense) yes() bool { return n.IntN(3) == 0 }

func (n nonsense) view() View {
	v := View{
		Wanted: n.anchors(), Signer: n.anchor(), Published: n.anchors(), Admitting: n.time(),
		Issuer: Issuer{Anchor: n.anchor(), Down: n.yes(), Ending: n.yes(), Renewable: n.yes()},
	}
	for range n.IntN(4) {
		v.Planes = append(v.Planes, Plane{Name: "plane/" + string(n.anchor()), Bundle: n.anchors(), Issuer: n.anchor(), Leaving: n.yes()})
	}
	for range n.IntN(7) {
		p := Proxy{Name: "app/" + string(n.anchor()), Trusts: n.anchors(), MayTrust: n.anchors(), Presents: n.anchors(), Learns: n.time(), Renews: n.time(), Leaving: n.yes()}
		if n.yes() {
			p.Fixed = "a Job"
		}
		if len(v.Planes) > 0 && n.yes() {
			p.Name = v.Planes[n.IntN(len(v.Planes))].Name
		}
		v.Proxies = append(v.Proxies, p)
	}
	return v
}

func TestStagesComeToAnEndWhateverTheViewIs(t *testing.T) {
	t.Parallel()
	property := func(seed uint64) bool {
		v := nonsense{rand.New(rand.NewPCG(seed, 0))}.view()
		if !ends(v) {
			t.Logf("no end for %+v", v)
			return false
		}
		stages := Stages(v)
		for _, restart := range []bool{true, false} {
			d := Next(v, restart)
			if d.Step == Done && len(stages) > 0 || d.Step != Done && (len(stages) == 0 || stages[0] != d.Stage) {
				t.Logf("%+v comes first, and %q are foreseen, for %+v", d, stages, v)
				return false
			}
		}
		return true
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 20_000}); err != nil {
		t.Fatal(err)
	}
}

// undisturbed finds a cluster at rest somewhere on its way, and carries it to the
// end without failures. What is foreseen at first is to come true.
func undisturbed(n uint64, told bool) *pilot {
	s := &pilot{world: &world{dice: seed(n), told: told}}
	s.origin(s.chance(8))
	for range s.pick(4) {
		s.apply(!s.chance(3))
		s.settle(true)
		s.wish()
	}
	s.calm, s.before = true, nil
	s.settle(true)
	s.pass(2 * time.Second)
	v, err := s.look()
	if err != nil {
		s.fail("%v", err)
		return s
	}
	// Pods that cannot start yet do later; what is restarted for the sake of one pod
	// brings round the others of its workload, too; and some renew their certificates
	// meanwhile. Nobody foresees that.
	moving := slices.ContainsFunc(s.workloads, func(o *workload) bool { return !s.rolled(o) })
	first := map[*workload]Proxy{}
	for _, p := range v.Proxies {
		o := v.pods[p.Name].owner
		if _, is := first[o]; !is {
			first[o] = p
		}
		p.Name = first[o].Name
		soon := !p.Renews.IsZero() && p.Renews.Before(s.now.Add(time.Hour))
		moving = moving || soon || !reflect.DeepEqual(p, first[o])
	}
	s.decisions = nil
	s.finish(func() bool { return true })
	var passed []Stage
	for _, d := range s.decisions {
		if d.Step != Done && (len(passed) == 0 || passed[len(passed)-1] != d.Stage) {
			passed = append(passed, d.Stage)
		}
	}
	if foreseen := Stages(v.View); !moving && !slices.Equal(foreseen, passed) {
		s.fail("%q were foreseen, and it went through %q", foreseen, passed)
	}
	return s
}

func TestAnUndisturbedRotationPassesThroughItsStages(t *testing.T) {
	t.Parallel()
	for n := range uint64(600) {
		if s := undisturbed(n, false); s.err != nil {
			t.Fatalf("seed %d: %s", n, story(undisturbed(n, true)))
		}
	}
}

// usable tells that nobody is cut off, be it by an expired certificate.
func usable(s *pilot) bool {
	return !slices.ContainsFunc(s.pods, func(p *pod) bool {
		return (s.mesh == linkerdMesh || p.role == application) && !s.alive(p)
	})
}

func TestAnExpiredIssuerIsOvercomeTheShortestWay(t *testing.T) {
	t.Parallel()
	for n := range uint64(600) {
		s := &pilot{world: &world{dice: seed(n)}}
		s.origin(true)
		s.calm = true
		s.settle(true)
		// Proxies that trust the signer, or the anchor of before if that can still
		// sign, need no restart.
		enough := 1
		known := func(anchor roots) bool {
			return s.bundle.roots&anchor != 0 && !slices.ContainsFunc(s.pods, func(p *pod) bool {
				return (s.mesh == linkerdMesh || p.role == application) && p.trust&anchor == 0
			})
		}
		sees := s.mesh == linkerdMesh || s.record != nil
		if sees && (known(s.signer) || known(s.issuer.anchor) && s.issuer.anchor&s.canSign != 0) {
			enough = 0
		}
		restarts := 0
		for i := 0; s.err == nil && !usable(s); i++ {
			if i > 30 {
				t.Fatalf("seed %d: the mesh does not come back: %v", n, s.pods)
			}
			d, err := s.step(true)
			if err != nil {
				t.Fatalf("seed %d: %v", n, err)
			}
			if d.Step == RestartDataPlane {
				restarts++
			}
			s.pass(time.Hour + time.Minute) // For proxies to try again.
			s.settle(true)
		}
		if restarts > enough {
			s.fail("%d restarts of the data plane, and %d are enough", restarts, enough)
		}
		s.finish(func() bool { return true })
		if s.err != nil {
			t.Fatalf("seed %d: %v", n, s.err)
		}
	}
}
