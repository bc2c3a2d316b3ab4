package planetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tunneldirector/director/plane"
)

// A failure is a difference, or a refusal.
type failure struct {
	seed   uint64
	at     int // step, counted from 0
	what   string
	packet *plane.Packet // nil: the step itself failed

	small     []step
	smallWhat string
	note      string
}

func (f *failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "history %d, step %d: %s\n", f.seed, f.at, f.what)
	if f.packet != nil {
		fmt.Fprintf(&b, "  packet %s\n", sayPacket(*f.packet))
	}
	if f.note != "" {
		fmt.Fprintf(&b, "  %s\n", f.note)
	}
	for i, s := range f.small {
		if i == 0 {
			fmt.Fprintf(&b, "a shorter history that fails too: %s\n", f.smallWhat)
		}
		fmt.Fprintf(&b, "%3d. %s\n", i+1, s)
	}
	return strings.TrimRight(b.String(), "\n")
}

func (s step) String() string {
	var b strings.Builder
	switch s.kind {
	case restart:
		return "restart"
	case setAlive:
		return fmt.Sprintf("SetAlive(%d, %t)", s.index, s.alive)
	case replace:
		b.WriteString("Replace by")
	default:
		b.WriteString("Apply")
	}
	if c := s.update.Config; c != nil {
		sayConfig(&b, *c)
	}
	for _, e := range s.update.Entries {
		fmt.Fprintf(&b, "\n       %s", describe(e))
	}
	return b.String()
}

func sayConfig(b *strings.Builder, c plane.Config) {
	for _, s := range c.Services {
		fmt.Fprintf(b, "\n       service %d at %v: %v, ring of %d", s.Num, s.VIPs, s.Match, len(s.Ring))
	}
	for _, t := range c.Tenants {
		fmt.Fprintf(b, "\n       tenant %d %q covers %v", t.Num, t.Name, t.Covers)
	}
	for _, r := range c.RealServers {
		fmt.Fprintf(b, "\n       real server %d %v by %v, MTU %d, VLANs %v, alive %t", r.Index, r.Addrs, r.Method, r.MTU, r.VLANs, r.Alive)
	}
	fmt.Fprintf(b, "\n       own %v", c.Own)
}

func sayPacket(p plane.Packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v -> %v proto %d", p.Src, p.Dst, p.Proto)
	if p.HasPorts() {
		fmt.Fprintf(&b, " ports %d -> %d", p.SrcPort, p.DstPort)
	}
	fmt.Fprintf(&b, " hops %d", p.Hops)
	word := func(when bool, format string, args ...any) {
		if when {
			fmt.Fprintf(&b, " "+format, args...)
		}
	}
	word(p.Interface != "", "by %s", p.Interface)
	word(p.Tenant != "", "of tenant %s", p.Tenant)
	word(p.VLAN != 0, "tag %d", p.VLAN)
	word(p.Fragment != plane.Whole, "%s fragment", [...]string{"", "first", "later"}[p.Fragment])
	word(p.Size != 0, "size %d", p.Size)
	word(p.DF, "DF")
	word(p.OtherMAC, "to another MAC")
	word(p.From != 0, "from real server %d", p.From)
	word(p.ICMPType != 0 || p.Inner != nil, "ICMP %d/%d", p.ICMPType, p.ICMPCode)
	if p.Inner != nil {
		fmt.Fprintf(&b, " about (%s)", sayPacket(*p.Inner))
	}
	return b.String()
}

func sayDecision(d plane.Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", d.Reason)
	if d.RealServer != 0 {
		fmt.Fprintf(&b, " to %d", d.RealServer)
	}
	fmt.Fprintf(&b, " side %q service %d backup %t hashed %t", d.Side, d.Service, d.Backup, d.Hashed)
	if d.Endpoint.VIP.IsValid() {
		fmt.Fprintf(&b, " by endpoint %v port %d at %v", d.Endpoint.Addr, d.Endpoint.Port, d.Endpoint.VIP)
	}
	if d.Subnet.Prefix.IsValid() {
		fmt.Fprintf(&b, " by subnet %v of tenant %d", d.Subnet.Prefix, d.Subnet.Tenant)
	}
	return b.String()
}

// A tally tells what the packets of a run came to, so that a run that tests little is seen.
type tally struct {
	packets int
	frames  int // real ones, by Inject
	reasons map[plane.Reason]int
}

func (t *tally) count(d plane.Decision) {
	if t.reasons == nil {
		t.reasons = map[plane.Reason]int{}
	}
	t.packets++
	t.reasons[d.Reason]++
}

func (t *tally) String() string {
	words := []string{fmt.Sprintf("%d packets, %d frames", t.packets, t.frames)}
	for _, r := range slices.Sorted(maps.Keys(t.reasons)) {
		words = append(words, fmt.Sprintf("%v %d", r, t.reasons[r]))
	}
	return strings.Join(words, ", ")
}
