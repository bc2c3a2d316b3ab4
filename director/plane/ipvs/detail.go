package ipvs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
)

// Warnings are sentences on what keeps the plane from forwarding as it should, at the moment.
func (p *Plane) Warnings() []string {
	p.warned.Lock()
	defer p.warned.Unlock()
	var out []string
	for _, what := range slices.Sorted(maps.Keys(p.warned.said)) {
		out = append(out, p.warned.said[what])
	}
	return out
}

// Detail describes the plane to people.
func (p *Plane) Detail() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries := 0
	for _, s := range p.services {
		for _, n := range p.want(s) {
			entries += n
		}
	}
	out := []string{fmt.Sprintf("%d connection entries for %d virtual services, sent again every %v; repaired %d times", entries, len(p.services),
		(p.shortest() / rounds).Round(time.Second), p.proof.repairs)}
	for _, t := range p.config.Tenants {
		out = append(out, fmt.Sprintf("subnets of tenant %q: routing table %d", t.Name, tenantTable+uint32(t.Num)))
	}
	return append(out, fmt.Sprintf("pair addresses: routing table %d", pairTable))
}

// Pairs are those in use, by address.
func (p *Plane) Pairs() []plane.Pair {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []plane.Pair
	for _, n := range slices.SortedFunc(maps.Keys(p.book.pairs), cmp.Compare[uint32]) {
		pr := p.book.pairs[n]
		one := plane.Pair{Addr4: p.book.addr(n, false).String(), Addr6: p.book.addr(n, true).String(), Primary: p.name(pr.primary), Backup: p.name(pr.backup)}
		if rs, ok := p.servers.live(pr); ok {
			one.Now = rs.Name
		}
		out = append(out, one)
	}
	return out
}

// name is an incarnation's, for people.
func (p *Plane) name(i affinity.Index) string {
	if rs, ok := p.servers[i]; ok {
		return rs.Name
	}
	if i == 0 {
		return "nobody"
	}
	return fmt.Sprintf("real server %d", i)
}
