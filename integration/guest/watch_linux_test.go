package guest

import (
	"fmt"
	"net/netip"
	"strings"

	"tunneldirector/integration/lab"
)

// A watch listens at the real servers' interfaces to the director. What a real server sees there is what it was given.
type watch struct {
	captures map[string]*lab.Capture
}

// A mark is a moment: how many packets each real server had seen.
type mark map[string]int

// A meeting is what one real server was given of one site.
type meeting struct {
	Tunnel int            // packets of the site's endpoint to the virtual IP
	Subnet int            // packets to the subnets behind the site
	Kinds  map[string]int // those of Tunnel: esp, ah, ike, udp/PORT, ip/NUMBER, part of a packet
}

func (r *rig) listen() *watch {
	r.Helper()
	w := &watch{captures: map[string]*lab.Capture{}}
	for _, rs := range r.RealServers {
		c, err := rs.NS.Capture(rs.DR)
		r.must("capture", err)
		r.Cleanup(func() { c.Close() })
		w.captures[rs.Name] = c
	}
	return w
}

func (w *watch) mark() mark {
	m := mark{}
	for name, c := range w.captures {
		m[name] = len(c.Seen())
	}
	return m
}

// met is what the real servers were given of a site since a moment; those that were given nothing are left out. Sites with
// one endpoint are told apart by their subnets only.
func (w *watch) met(s *lab.Site, since mark) map[string]meeting {
	all := map[string]meeting{}
	for name, c := range w.captures {
		m := meeting{Kinds: map[string]int{}}
		for _, p := range c.Seen()[since[name]:] {
			switch {
			case p.Src == s.Endpoint && p.Dst == s.VIP:
				m.Tunnel++
				m.Kinds[nameOf(p)]++
			case inside(s, p.Dst):
				m.Subnet++
			}
		}
		if m.Tunnel+m.Subnet > 0 {
			all[name] = m
		}
	}
	return all
}

func inside(s *lab.Site, a netip.Addr) bool {
	for _, p := range s.Subnets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// nameOf names what a packet is.
func nameOf(p lab.Seen) string {
	name := ""
	switch {
	case p.Part:
		return "part"
	case p.Proto == 50:
		name = "esp"
	case p.Proto == 51:
		name = "ah"
	case p.Proto == 17 && p.DstPort == 4500 && p.SPI != 0:
		name = "esp-in-udp"
	case p.Proto == 17 && p.DstPort == 500, p.Proto == 17 && p.DstPort == 4500:
		name = "ike"
	case p.Proto == 17:
		name = fmt.Sprintf("udp/%d", p.DstPort)
	default:
		name = fmt.Sprintf("ip/%d", p.Proto)
	}
	if p.InIPIP {
		name += "-in-ipip"
	}
	return name
}

// together insists that since a moment all of a site, of both directions, was given to one real server, which is at, and
// that packets of all kinds named were among it.
func (r *rig) together(s *lab.Site, at *lab.RealServer, since mark, kinds ...string) {
	r.Helper()
	all := r.w.met(s, since)
	m := all[at.Name]
	if len(all) != 1 || m.Tunnel == 0 || m.Subnet == 0 {
		r.Errorf("%s is at %s; real servers were given %+v, want packets of both directions there and nowhere else", s.Name, at.Name, all)
		return
	}
	var missing []string
	for _, k := range kinds {
		if m.Kinds[k] == 0 {
			missing = append(missing, k)
		}
	}
	if len(missing) > 0 {
		r.Errorf("%s: %s was given %v, want %s too", s.Name, at.Name, m.Kinds, strings.Join(missing, ", "))
	}
}
