package rotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	errRefused = errors.New("the API has refused")
	errKilled  = errors.New("the provider is killed")
)

// named are anchors as the machine knows them.
func named(r roots) Anchors {
	var all Anchors
	for i := range anchorLetters {
		if r&(1<<i) != 0 {
			all = append(all, Anchor(anchorLetters[i:i+1]))
		}
	}
	return all
}

// bitsOf is the way back.
func bitsOf(all Anchors) roots {
	var r roots
	for _, a := range all {
		r |= 1 << strings.Index(anchorLetters, string(a))
	}
	return r
}

func nameOf(one roots) Anchor {
	if one == 0 {
		return ""
	}
	return named(one)[0]
}

// A pilot is a provider that keeps the trust of the world: it sees what can be
// seen, asks the machine, and does what it says, by API calls each of which may
// fail or be its last.
type pilot struct {
	*world
	wanted, signer, canSign roots
	// record is the history as it is kept in the cluster.
	record []byte
	// lifetime of certificates as far as it is known; 0 if not.
	lifetime time.Duration
	// coarse clocks are cut to the second.
	coarse bool
	faulty bool
	// before are those that were there when the control plane was last seen to hand
	// out only the newest; what a killed provider forgets.
	before map[*pod]bool
	closed time.Time

	decisions []Decision
}

func (s *pilot) clock() time.Time {
	if s.coarse {
		return s.now.Truncate(time.Second)
	}
	return s.now
}

// call is one request to the API.
func (s *pilot) call(effect func()) error {
	if s.calm {
		s.pass(2 * time.Second)
	} else {
		much := 4
		if s.chance(12) {
			much = 60
		}
		for range s.pick(much) {
			s.happen()
		}
	}
	if s.err != nil {
		return s.err
	}
	fate := 99
	if s.faulty {
		fate = s.pick(60)
	}
	var err error
	switch fate {
	case 0:
		return errRefused
	case 1:
		s.before = nil
		return errKilled
	case 2:
		err = errRefused
	case 3:
		s.before = nil
		err = errKilled
	}
	effect()
	s.check()
	if s.err != nil {
		return s.err
	}
	return err
}

func (s *pilot) keep(h History) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	s.note("history %s", text)
	return s.call(func() { s.record = text })
}

// sight is what the provider has found.
type sight struct {
	View
	history History
	stamp   stamp
	pods    map[string]*pod
}

func (s *pilot) look() (*sight, error) {
	v := &sight{pods: map[string]*pod{}}
	kept := false
	if err := s.call(func() {
		v.stamp = stamp{bundle: s.bundle, issuer: s.issuer}
		kept = s.record != nil
		if kept {
			if err := json.Unmarshal(s.record, &v.history); err != nil {
				s.fail("%v", err)
			}
		}
	}); err != nil {
		return nil, err
	}
	issuer := v.stamp.issuer
	v.Wanted, v.Signer, v.Published = named(s.wanted), nameOf(s.signer), named(v.stamp.bundle.roots)
	left := issuer.expires.Sub(s.now)
	v.Issuer = Issuer{Anchor: nameOf(issuer.anchor), Down: left <= 0, Ending: left < ending, Renewable: issuer.anchor&s.canSign != 0}
	var h History
	if kept {
		h = v.history.Begun(v.Issuer.Anchor, v.Published, s.clock())
	} else {
		h = Adopt(v.Issuer.Anchor, v.Published, s.clock())
	}
	if !reflect.DeepEqual(h, v.history) {
		if err := s.keep(h); err != nil {
			return nil, err
		}
		v.history = h
	}
	read := true
	if err := s.call(func() { read = s.planes(v) }); err != nil {
		return nil, err
	}
	if ended := v.history.Ended(s.clock(), s.lifetime); read && !reflect.DeepEqual(ended, v.history) {
		fresh, at := !v.history.Settled(), s.clock()
		if err := s.keep(ended); err != nil {
			return nil, err
		}
		v.history = ended
		if fresh {
			s.before = nil
			there := map[*pod]bool{}
			if err := s.call(func() {
				for _, p := range s.pods {
					if p.phase != inFlight {
						there[p] = true
					}
				}
			}); err != nil {
				return nil, err
			}
			s.before, s.closed = there, at
		}
	}
	if s.mesh == linkerdMesh {
		v.Admitting = v.history.Admitting(s.clock(), requestLimit)
	}
	return v, s.call(func() { s.proxies(v) })
}

// planes lists the control plane. It reports whether all have read the newest.
func (s *pilot) planes(v *sight) bool {
	read := true
	for _, p := range s.pods {
		if p.role == application || p.phase == inFlight {
			continue
		}
		plane := Plane{Name: p.name, Leaving: p.leaving}
		switch {
		case p.mark == nil:
			read = false
		case p.mark.bundle.serial != v.stamp.bundle.serial:
			read = false
			if p.mark.bundle.roots != v.stamp.bundle.roots {
				plane.Bundle = named(p.mark.bundle.roots)
			}
		default:
			plane.Bundle = v.Published
		}
		if p.role == authority && p.mark != nil {
			plane.Issuer = nameOf(p.mark.issuer.anchor)
			if p.mark.issuer.serial != v.stamp.issuer.serial {
				read = false
				if p.mark.issuer.anchor == v.stamp.issuer.anchor {
					plane.Bundle = nil
				}
			}
		}
		v.Planes = append(v.Planes, plane)
	}
	return read
}

func (s *pilot) proxies(v *sight) {
	now := s.clock()
	var turned time.Time
	if s.lifetime > 0 {
		for _, handout := range v.history[:len(v.history)-1] {
			if handout.End.IsZero() {
				turned = time.Time{}
				break
			}
			if at := handout.End.Add(s.lifetime + time.Second); at.After(turned) {
				turned = at
			}
		}
	}
	for _, p := range s.pods {
		if p.phase == inFlight || s.mesh == istioMesh && p.role != application {
			continue
		}
		v.pods[p.name] = p
		proxy := Proxy{Name: p.name, Leaving: p.leaving, Renews: turned}
		since := p.created.Truncate(time.Second)
		if s.before != nil && !s.before[p] && s.closed.After(since.Add(-time.Second)) {
			since = s.closed.Add(1)
		}
		if asked := now.Add(-s.lifetime); s.lifetime > 0 && asked.After(since) {
			since = asked
		}
		proxy.Presents, proxy.Trusts, proxy.MayTrust = v.history.Given(since)
		switch {
		case s.mesh == istioMesh:
			proxy.Learns = turned
		case p.role == application:
			proxy.Trusts, proxy.MayTrust = named(p.trust), named(p.trust)
		default:
			proxy.Trusts, proxy.MayTrust = v.Published, v.Published
		}
		if p.owner == nil {
			proxy.Fixed = "nobody makes it anew"
		}
		v.Proxies = append(v.Proxies, proxy)
	}
}

const (
	ending      = 7 * 24 * time.Hour
	issuerLife  = 365 * 24 * time.Hour
	shortIssuer = 60 * 24 * time.Hour
)

// step looks, decides and does. It returns what it has decided.
func (s *pilot) step(restart bool) (Decision, error) {
	v, err := s.look()
	if err != nil {
		return Decision{}, err
	}
	if v.Issuer.Ending && !v.Issuer.Down && v.Issuer.Anchor == v.Signer {
		// An ordinary renewal, which is no affair of a rotation.
		err := s.call(func() { s.put(s.signer, issuerLife) })
		return Decision{Step: Issue}, err
	}
	d := Next(v.View, restart)
	s.note("%d %q bundle %v anchor %v proxies %d until %v: %s", d.Step, d.Stage, d.Bundle, d.Anchor, len(d.Proxies), d.Until.Format("02 15:04:05"), d.Reason)
	s.judge(d, v)
	if s.err != nil {
		return d, s.err
	}
	s.decisions = append(s.decisions, d)
	return d, s.take(d, v)
}

// ends reports whether an end is to be foreseen after a reasonable number of steps.
func ends(v View) bool {
	const bound = 60
	steps := 0
	for range v.course() {
		if steps++; steps > bound {
			return false
		}
	}
	return true
}

// judge checks what the machine says of itself.
func (s *pilot) judge(d Decision, v *sight) {
	if !ends(v.View) {
		s.fail("no end is to be foreseen")
		return
	}
	stages := Stages(v.View)
	switch {
	case d.Step == Done && len(stages) > 0, d.Step != Done && (len(stages) == 0 || stages[0] != d.Stage):
		s.fail("stages %q, but next is %q", stages, d.Stage)
	case d.Blocked && d.Step != Wait, d.Step == RestartDataPlane && len(d.Proxies) == 0:
		s.fail("a decision that makes no sense: %+v", d)
	}
	for _, name := range d.Proxies {
		p := v.pods[name]
		if d.Step == RestartDataPlane && (p == nil || p.owner == nil) {
			s.fail("%s cannot be made anew", name)
		}
		if d.Blocked && p.owner != nil {
			s.fail("%s stands in nobody's way", name)
		}
	}
}

func (s *pilot) take(d Decision, v *sight) error {
	switch d.Step {
	case Publish:
		if err := s.keep(v.history.Begun(v.Issuer.Anchor, d.Bundle, s.clock())); err != nil {
			return err
		}
		return s.call(func() { s.publish(bitsOf(d.Bundle)) })
	case Issue:
		begun := v.history.Begun(d.Anchor, v.Published, s.clock())
		if d.Stage == Recover {
			begun = v.history.Revived(d.Anchor, v.Published, s.clock())
		}
		if err := s.keep(begun); err != nil {
			return err
		}
		life := issuerLife
		if bitsOf(Anchors{d.Anchor}) != s.signer {
			life = shortIssuer
		}
		return s.call(func() { s.put(bitsOf(Anchors{d.Anchor}), life) })
	case RestartControlPlane:
		var rolling []*workload
		for _, o := range s.workloads {
			if o.role != application {
				rolling = append(rolling, o)
			}
		}
		return s.roll(rolling, &v.stamp)
	case RestartDataPlane:
		var rolling []*workload
		for _, name := range d.Proxies {
			if o := v.pods[name].owner; !slices.Contains(rolling, o) {
				rolling = append(rolling, o)
			}
		}
		return s.roll(rolling, nil)
	case Wait, Done:
	}
	return nil
}

// roll restarts workloads and waits for them, or gives up.
func (s *pilot) roll(rolling []*workload, mark *stamp) error {
	for _, o := range rolling {
		if err := s.call(func() {
			o.template++
			if mark != nil {
				o.mark = mark
			}
		}); err != nil {
			return err
		}
	}
	if s.calm {
		s.settle(false)
		return s.err
	}
	patience := s.pick(40 * (len(rolling) + 1))
	for range patience {
		if slices.IndexFunc(rolling, func(o *workload) bool { return !s.rolled(o) }) < 0 {
			return nil
		}
		s.progress(rolling[s.pick(len(rolling))])
		s.happen()
	}
	return errRefused
}

// apply is a run of Terraform: it goes on for some steps, and through errors that
// are not its end.
func (s *pilot) apply(restart bool) {
	for range 1 + s.pick(12) {
		d, err := s.step(restart)
		switch {
		case s.err != nil, errors.Is(err, errKilled):
			return
		case err != nil:
			continue
		case d.Step == Done, d.Step == Wait:
			return
		}
	}
}

// finish carries a rotation to its end in a calm world.
func (s *pilot) finish(restart func() bool) {
	s.calm, s.faulty = true, false
	s.settle(false)
	const bound = 120
	for range bound {
		d, err := s.step(restart())
		switch {
		case s.err != nil:
			return
		case err != nil:
			s.fail("a calm world refuses: %v", err)
		case d.Step == Done:
			s.examine()
			return
		case d.Step == Wait && d.Blocked:
			s.settle(true)
		case d.Step == Wait && !d.Until.IsZero():
			s.pass(max(0, d.Until.Sub(s.now)) + 2*time.Second)
			s.settle(false)
		default:
			s.settle(false)
		}
	}
	s.fail("the rotation does not end; last: %+v", s.decisions[max(0, len(s.decisions)-8):])
}

// examine checks that everything is as it is to be in the end.
func (s *pilot) examine() {
	wanted := s.wanted | s.signer
	if s.bundle.roots != wanted {
		s.fail("%s is published, and %s wanted", s.bundle.roots, wanted)
	}
	if s.issuer.anchor != s.signer {
		s.fail("the issuer leads to %s, and is to lead to %s", s.issuer.anchor, s.signer)
	}
	for _, p := range s.pods {
		switch {
		case p.role == authority && (p.read.roots != wanted || p.issuer.anchor != s.signer):
			s.fail("%s has read %s and issues below %s", p.name, p.read.roots, p.issuer.anchor)
		case s.mesh == istioMesh && p.role == authority:
		case p.role == injector && p.mountBundle.roots != wanted:
			s.fail("%s gives out %s", p.name, p.mountBundle.roots)
		case p.trust != wanted:
			s.fail("%s trusts %s rather than %s", p.name, p.trust, wanted)
		case p.presents&^wanted != 0:
			s.fail("%s presents %s", p.name, p.presents)
		}
	}
}

// origin makes a cluster in one of the states that a provider may find.
func (s *pilot) origin(neglected bool) {
	const a, b = roots(1), roots(2)
	s.mesh = meshKind(s.pick(2))
	s.now = time.Date(2030, 1, 1, 0, 0, 0, s.pick(1e9), time.UTC)
	s.coarse, s.hurried = s.chance(2), s.chance(3)
	s.lifetime = certificateLife
	if s.chance(6) {
		s.lifetime = 0
	}
	life := issuerLife
	switch s.pick(6) {
	case 0:
		life = 10 * 24 * time.Hour
	case 1:
		life = 2 * 24 * time.Hour
	}
	if neglected {
		life = 30 * time.Hour
	}
	s.put(a, life)
	s.bundle = trustBundle{roots: a}
	state := s.pick(6)
	if state >= 4 {
		s.bundle.roots = a | b
	}
	apps, replicas := s.pick(5), 3
	if s.chance(40) {
		apps, replicas = 40, 10
	}
	s.populate(apps, replicas)
	switch state {
	case 0, 1, 2: // Made by this provider.
		first := &stamp{bundle: s.bundle, issuer: s.issuer}
		for _, o := range s.workloads {
			if o.role != application {
				o.mark = first
			}
		}
		for _, p := range s.pods {
			if p.owner != nil {
				p.mark = p.owner.mark
			}
		}
		s.record, _ = json.Marshal(History(nil).Begun(nameOf(a), named(a), s.now))
	case 3: // Found, with another anchor published that nobody has read.
		s.bundle = trustBundle{roots: a | b, serial: 1}
	case 4: // Found with two anchors.
	case 5: // Found with the issuer switched by hand.
		s.put(b, life)
	}
	s.wanted, s.signer, s.canSign = b, b, a|b
	if s.chance(2) {
		s.canSign = b
	}
	if neglected {
		s.pass(life + time.Hour)
	}
}

// wish changes what is wanted.
func (s *pilot) wish() {
	former := s.signer
	switch s.pick(5) {
	case 0: // Another anchor.
		s.signer = min(former<<1, 1<<8)
	case 1: // Back.
		s.signer = max(former>>1, 1)
	}
	s.wanted = s.signer
	if s.chance(3) {
		s.wanted |= former // As clusters that share anchors do.
	}
	if s.chance(4) {
		s.wanted |= 1 << (9 + s.pick(3))
	}
	s.canSign |= s.signer
	if s.chance(3) {
		s.canSign &^= former &^ s.signer
	}
	s.note("wanted %s, signed by %s", s.wanted, s.signer)
}

// simulate is a whole story: unrest, then a calm in which all is to end well.
func simulate(d dice, told bool) *pilot {
	s := &pilot{world: &world{dice: d, told: told}}
	s.origin(s.chance(8))
	s.faulty = true
	edits := s.chance(4)
	for range 2 + s.pick(14) {
		if s.err != nil {
			return s
		}
		for range s.pick(25) {
			s.happen()
		}
		if s.chance(8) {
			s.wish()
		}
		if edits && s.record != nil && s.chance(6) {
			s.note("somebody edits the bundle")
			s.tear()
			if _, err := s.look(); err != nil {
				continue
			}
		}
		s.apply(!s.chance(3))
	}
	for range 1 + s.pick(3) {
		mode := s.pick(3)
		if s.err == nil {
			s.finish(func() bool { return mode == 0 || mode == 1 && s.chance(2) })
		}
		s.wish()
	}
	return s
}

func story(s *pilot) string { return fmt.Sprintf("%v\n%s", s.err, strings.Join(s.trail, "\n")) }

type seeded struct{ *rand.Rand }

func (s seeded) pick(n int) int { return s.IntN(n) }

func seed(n uint64) dice { return seeded{rand.New(rand.NewPCG(n, 4))} }

func TestNoTwoPodsAreEverCutOff(t *testing.T) {
	t.Parallel()
	total := 0
	for n := range uint64(400) {
		s := simulate(seed(n), false)
		total += s.steps
		if s.err != nil {
			t.Fatalf("seed %d: %s", n, story(simulate(seed(n), true)))
		}
	}
	t.Logf("%d steps", total)
}

// fated are choices by bytes; when they are used up, chance takes over.
type fated struct {
	bytes []byte
	rest  dice
}

func (f *fated) pick(n int) int {
	if len(f.bytes) == 0 {
		return f.rest.pick(n)
	}
	b := int(f.bytes[0])
	f.bytes = f.bytes[1:]
	if n > 256 {
		return b * n / 256
	}
	return b % n
}

func FuzzNoTwoPodsAreEverCutOff(f *testing.F) {
	f.Add(uint64(1), []byte("the quick brown fox jumps over the lazy dog"))
	f.Fuzz(func(t *testing.T, n uint64, fate []byte) {
		s := simulate(&fated{bytes: fate, rest: seed(n)}, false)
		if s.err != nil {
			t.Fatal(story(simulate(&fated{bytes: fate, rest: seed(n)}, true)))
		}
	})
}
