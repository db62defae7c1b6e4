package netpol

import "net/netip"

// Networks are the ranges by which the policies tell addresses apart: two that
// are in the same of them are alike.
func (p *Policies) Networks() []netip.Prefix {
	var networks []netip.Prefix
	for _, side := range []*side{&p.egress, &p.ingress} {
		for _, policy := range side.policies {
			for _, rule := range policy.rules {
				for _, peer := range rule.peers {
					if peer.block != nil {
						networks = append(append(networks, peer.block.within), peer.block.except...)
					}
				}
			}
		}
	}
	return networks
}
