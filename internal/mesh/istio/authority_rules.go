package istio

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/mesh/access"
)

// A match is whether a rule is about a connection: it may depend on what is sent.
type match int

const (
	never match = iota
	perhaps
	always
)

// both is when two conditions hold, either when one of them does.
func both(a, b match) match   { return min(a, b) }
func either(a, b match) match { return max(a, b) }
func not(m match) match       { return always - m }

func when(holds bool) match {
	if holds {
		return always
	}
	return never
}

// decide has the policies of a pod judge a call: those of an authorizer of the
// user's, then those that refuse, then those that allow, of which one has to if
// there are any.
func (a *enforcement) decide(c call, to access.End) access.Verdict {
	config, r := a.configOf(to.Pod), roleOf(to)
	var allowing, allowed, allowedInPart, restrictedInPart, asked []string
	for _, policy := range a.policies {
		if !governs(policy, config, r, to.Pod) {
			continue
		}
		number, m := c.strongest(policy)
		rule := fmt.Sprintf("rule %d of %s", number, policy)
		switch action := policy.spec.Action; {
		case action == customAction && m != never:
			asked = append(asked, rule+" asks an authorizer of the user's, which is not evaluated")
		case action == denyAction && m == always:
			return access.Verdict{Reason: rule + " denies it"}
		case action == denyAction && m == perhaps:
			restrictedInPart = append(restrictedInPart, rule+" denies some of it")
		case action == customAction, action == denyAction, action == auditAction:
		default:
			allowing = append(allowing, policy.String())
			switch m {
			case always:
				allowed = append(allowed, rule+" allows it")
			case perhaps:
				allowedInPart = append(allowedInPart, rule+" allows some of it")
			}
		}
	}
	if len(allowing) > 0 && len(allowed) == 0 {
		if len(allowedInPart) == 0 {
			return access.Verdict{Reason: fmt.Sprintf("no rule of %s allows it%s", strings.Join(allowing, " or "), c.stranger())}
		}
		restrictedInPart = append(restrictedInPart, allowedInPart...)
	}
	switch {
	case len(asked) > 0:
		return access.Verdict{Allowed: true, Unknown: true, Reason: strings.Join(asked, "; ")}
	case len(restrictedInPart) > 0:
		return access.Verdict{Allowed: true, Partly: true, Reason: strings.Join(restrictedInPart, "; ")}
	case len(allowed) > 0:
		return access.Verdict{Allowed: true, Reason: allowed[0]}
	default:
		return access.Verdict{Allowed: true, Reason: "no AuthorizationPolicy restricts it"}
	}
}

func (c call) stranger() string {
	if c.principal == "" {
		return ", and the caller shows no identity of the mesh" + c.why
	}
	return ""
}

// strongest is the number of the rule that is the most about the call, and how much
// that is; 0 and never if none is.
func (c call) strongest(policy placed[authorization]) (number int, found match) {
	for i, r := range policy.spec.Rules {
		if m := c.matches(r, policy.namespace, policy.spec.Action == denyAction); m > found {
			number, found = i+1, m
		}
	}
	return number, found
}

// matches reports whether a rule of a policy in a namespace is about the call. The
// node's proxy knows no HTTP: it drops a rule that allows by it, and leaves it out
// of one that denies.
func (c call) matches(r rule, namespace string, denies bool) match {
	from, to, conditions := never, never, always
	for _, f := range r.From {
		from = either(from, c.comesFrom(f.Source, namespace))
	}
	for _, t := range r.To {
		to = either(to, c.goesTo(t.Operation))
	}
	for _, condition := range r.When {
		conditions = both(conditions, c.meets(condition))
	}
	if len(r.From) == 0 {
		from = always
	}
	if len(r.To) == 0 {
		to = always
	}
	if c.ambient && !denies && usesHTTP(r) {
		return never
	}
	return both(from, both(to, conditions))
}

// usesHTTP reports whether a rule is about what only a proxy of HTTP knows.
func usesHTTP(r rule) bool {
	return slices.ContainsFunc(r.From, func(f ruleFrom) bool {
		return len(f.Source.RequestPrincipals)+len(f.Source.NotRequestPrincipals)+len(f.Source.RemoteIPBlocks)+len(f.Source.NotRemoteIPBlocks) > 0
	}) || slices.ContainsFunc(r.To, func(t ruleTo) bool { return t.Operation.http() }) ||
		slices.ContainsFunc(r.When, func(c condition) bool { return !slices.Contains(connectionKeys, c.Key) })
}

func (o operation) http() bool {
	return len(o.Hosts)+len(o.NotHosts)+len(o.Methods)+len(o.NotMethods)+len(o.Paths)+len(o.NotPaths) > 0
}

// connectionKeys are the keys of conditions that the node's proxy knows.
var connectionKeys = []string{"source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"}

// unknown is what a proxy of HTTP may find, and the node's proxy does not look for.
func (c call) unknown() match {
	if c.ambient {
		return always
	}
	return perhaps
}

func (c call) comesFrom(s source, namespace string) match {
	m := always
	for _, part := range []struct {
		values, notValues []string
		matches           func(string) match
	}{
		{s.Principals, s.NotPrincipals, c.isPrincipal},
		{s.Namespaces, s.NotNamespaces, c.isNamespace},
		{s.ServiceAccounts, s.NotServiceAccounts, func(account string) match { return c.isAccount(account, namespace) }},
		{s.TrustDomains, s.NotTrustDomains, c.isTrustDomain},
		{s.IPBlocks, s.NotIPBlocks, c.isAddress},
	} {
		m = both(m, anyOf(part.values, part.notValues, part.matches))
	}
	if len(s.RequestPrincipals)+len(s.NotRequestPrincipals)+len(s.RemoteIPBlocks)+len(s.NotRemoteIPBlocks) > 0 {
		m = both(m, c.unknown())
	}
	return m
}

func (c call) goesTo(o operation) match {
	m := anyOf(o.Ports, o.NotPorts, c.isPort)
	if o.http() {
		m = both(m, c.unknown())
	}
	return m
}

func (c call) meets(condition condition) match {
	matchers := map[string]func(string) match{
		"source.ip": c.isAddress, "source.namespace": c.isNamespace, "source.principal": c.isPrincipal, "destination.port": c.isPort,
	}
	matches, known := matchers[condition.Key]
	switch {
	case known:
		return anyOf(condition.Values, condition.NotValues, matches)
	case condition.Key == "destination.ip":
		return perhaps
	default:
		return c.unknown()
	}
}

// anyOf is when one of the values matches, if there are any, and none of the
// others.
func anyOf(values, notValues []string, matches func(string) match) match {
	m := always
	if len(values) > 0 {
		m = never
		for _, value := range values {
			m = either(m, matches(value))
		}
	}
	for _, value := range notValues {
		m = both(m, not(matches(value)))
	}
	return m
}

// isPrincipal takes patterns with a * at one end. Sidecars take cluster.local, and
// the aliases of the trust domain, for the trust domain of the mesh.
func (c call) isPrincipal(pattern string) match {
	if c.principal == "" {
		return never
	}
	if fits(pattern, c.principal) {
		return always
	}
	if domain, rest, found := strings.Cut(pattern, "/"); found && !c.ambient && slices.Contains(c.aliases, domain) {
		own, _, _ := strings.Cut(c.principal, "/")
		return when(fits(own+"/"+rest, c.principal))
	}
	return never
}

func fits(pattern, text string) bool {
	switch {
	case pattern == "*":
		return text != ""
	case strings.HasPrefix(pattern, "*"):
		return strings.HasSuffix(text, pattern[1:])
	case strings.HasSuffix(pattern, "*"):
		return strings.HasPrefix(text, pattern[:len(pattern)-1])
	default:
		return pattern == text
	}
}

// isNamespace takes a * anywhere, as sidecars do.
func (c call) isNamespace(pattern string) match {
	if c.principal == "" {
		return never
	}
	if !strings.Contains(pattern, "*") {
		return when(pattern == c.from.Pod.Namespace)
	}
	expression := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")
	matched, err := regexp.MatchString("^(?:"+expression+")$", c.from.Pod.Namespace)
	return when(err == nil && matched)
}

// isAccount takes <namespace>/<name>, or a name in the policy's namespace.
func (c call) isAccount(account, namespace string) match {
	if c.principal == "" {
		return never
	}
	if !strings.Contains(account, "/") {
		account = namespace + "/" + account
	}
	return when(account == c.from.Pod.Namespace+"/"+accountOf(c.from.Pod))
}

// isTrustDomain is left open for the node's proxy, which is not told of it.
func (c call) isTrustDomain(pattern string) match {
	switch domain, _, _ := strings.Cut(c.principal, "/"); {
	case c.principal == "":
		return never
	case c.ambient:
		return perhaps
	default:
		return when(fits(pattern, domain) || slices.Contains(c.aliases, pattern))
	}
}

func (c call) isAddress(block string) match {
	network, err := parseNetwork(block)
	if err != nil {
		return never
	}
	within, known := within(c.from, network)
	if !known {
		return perhaps
	}
	return when(within)
}

func (c call) isPort(port string) match { return when(port == strconv.Itoa(int(c.port))) }

// within reports whether an end's address is in a range, and whether that is known:
// a pod that does not run yet has none.
func within(end access.End, network netip.Prefix) (within, known bool) {
	addresses := []netip.Addr{end.IP}
	if end.Pod != nil {
		addresses = nil
		for _, ip := range end.Pod.Status.PodIPs {
			if address, err := netip.ParseAddr(ip.IP); err == nil {
				addresses = append(addresses, address)
			}
		}
		if address, err := netip.ParseAddr(end.Pod.Status.PodIP); err == nil && len(addresses) == 0 {
			addresses = append(addresses, address)
		}
	}
	for _, address := range addresses {
		known = known || address.IsValid()
		within = within || address.IsValid() && network.Contains(address.Unmap())
	}
	return within, known
}

// parseNetwork reads a range of addresses or a single one.
func parseNetwork(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		network, err := netip.ParsePrefix(text)
		return network.Masked(), err
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(address, address.BitLen()), nil
}

// networksOf are the ranges that policies name, sorted.
func networksOf(policies []placed[authorization]) []netip.Prefix {
	var networks []netip.Prefix
	add := func(blocks ...string) {
		for _, block := range blocks {
			if network, err := parseNetwork(block); err == nil {
				networks = append(networks, network)
			}
		}
	}
	for _, policy := range policies {
		for _, r := range policy.spec.Rules {
			for _, f := range r.From {
				add(slices.Concat(f.Source.IPBlocks, f.Source.NotIPBlocks)...)
			}
			for _, c := range r.When {
				if c.Key == "source.ip" {
					add(slices.Concat(c.Values, c.NotValues)...)
				}
			}
		}
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks)
}

// A pattern is what policies tell callers apart by besides their addresses.
type pattern struct {
	kind      patternKind
	text      string
	namespace string // of the policy, for accounts
}

type patternKind int

const (
	ofPrincipals patternKind = iota
	ofNamespaces
	ofAccounts
	ofTrustDomains
)

// of is what is true of a caller, for sidecars and for the node's proxy.
func (p pattern) of(c call) string {
	var key strings.Builder
	for _, c.ambient = range []bool{false, true} {
		var m match
		switch p.kind {
		case ofPrincipals:
			m = c.isPrincipal(p.text)
		case ofNamespaces:
			m = c.isNamespace(p.text)
		case ofAccounts:
			m = c.isAccount(p.text, p.namespace)
		case ofTrustDomains:
			m = c.isTrustDomain(p.text)
		}
		key.WriteString(strconv.Itoa(int(m)))
	}
	return key.String()
}

// patternsOf are the patterns of policies, each once.
func patternsOf(policies []placed[authorization]) []pattern {
	var patterns []pattern
	seen := map[pattern]bool{}
	for _, policy := range policies {
		add := func(kind patternKind, texts ...string) {
			for _, text := range texts {
				p := pattern{kind: kind, text: text}
				if kind == ofAccounts && !strings.Contains(text, "/") {
					p.namespace = policy.namespace
				}
				if !seen[p] {
					seen[p] = true
					patterns = append(patterns, p)
				}
			}
		}
		for _, r := range policy.spec.Rules {
			for _, f := range r.From {
				s := f.Source
				add(ofPrincipals, slices.Concat(s.Principals, s.NotPrincipals)...)
				add(ofNamespaces, slices.Concat(s.Namespaces, s.NotNamespaces)...)
				add(ofAccounts, slices.Concat(s.ServiceAccounts, s.NotServiceAccounts)...)
				add(ofTrustDomains, slices.Concat(s.TrustDomains, s.NotTrustDomains)...)
			}
			for _, c := range r.When {
				switch c.Key {
				case "source.principal":
					add(ofPrincipals, slices.Concat(c.Values, c.NotValues)...)
				case "source.namespace":
					add(ofNamespaces, slices.Concat(c.Values, c.NotValues)...)
				}
			}
		}
	}
	return patterns
}
