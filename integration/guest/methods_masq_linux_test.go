package guest

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// exactPort is the source port of the sites under method masq.
const exactPort = 40000

// TestMethodMasq: NAT to a real server's own address, for UDP from endpoints with a port, works both ways. A whole address is
// refused: the kernel would write the port that speaks first into its entry, and that one nobody could move.
func TestMethodMasq(t *testing.T) {
	requireGuest(t)
	service := serviceFor("masq", wireguard, datagrams, l2tpUDP)
	r := newRig(t, setup{plane: "ipvs", lab: lab.Options{Sites: 10, RealServers: 2}, service: service})
	r.serve()
	r.answerThroughDirector()
	for _, rs := range r.RealServers {
		r.echo(rs.NS, netip.AddrPortFrom(rs.DR.Addrs[0], datagramPort))
	}
	for _, c := range []struct {
		kind
		sites []*lab.Site
		port  func(end) uint16 // of a site
	}{
		{natted, r.Sites[:4], func(end) uint16 { return exactPort }},
		{nattedL2TP, r.Sites[6:], end.l2tpPort},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := r.sub(t)
			sites := oneSubnet(c.kind, c.sites...)
			since := r.w.mark()
			for _, s := range sites {
				r.pushPort(s, c.port(siteEnd(r.Lab, s)), service)
			}
			r.meet(c.kind, sites...)
			for _, s := range sites {
				r.ping(s, 5)
				r.rewritten(s, since)
			}
		})
	}
	t.Run("exact port", func(t *testing.T) {
		r := r.sub(t)
		s := r.Sites[4]
		r.pushPort(s, exactPort, service)
		if got := r.answered(s, exactPort, 5); got != 5 {
			r.Errorf("%d of 5 datagrams were answered", got)
		}
	})
	t.Run("whole address", func(t *testing.T) {
		r := r.sub(t)
		r.refused("a whole address", r.d.Push(r.ctx, r.Sites[5]), "endpoints", "address:port")
	})
}

// pushPort makes a site's tunnel known by its address and port.
func (r *rig) pushPort(s *lab.Site, port uint16, service daemon.VirtualService) {
	r.Helper()
	tunnel := daemon.Tunnel(s)
	tunnel.Service, tunnel.Endpoints = service.Name, []string{netip.AddrPortFrom(s.Endpoint, port).String()}
	_, err := r.d.Client.PutTunnel(r.ctx, tunnel)
	r.must("push "+s.Name, err)
}

// natted is WireGuard with the one source port that was pushed.
var natted = kind{"wireguard", wireguard.protocols, func(e end) error {
	if e.server {
		return e.wireguard(wireguardPort, 0)
	}
	return e.wireguard(exactPort, wireguardPort)
}}

// nattedL2TP is L2TP whose real servers are spoken to at their own addresses.
var nattedL2TP = kind{l2tpUDP.name, l2tpUDP.protocols, func(e end) error {
	if e.server {
		e.local = netip.IPv4Unspecified()
	}
	return e.pseudowire(l2tpOverUDP)
}}

// answerThroughDirector lets real servers answer the sites by way of the director, which turns addresses back.
func (r *rig) answerThroughDirector() {
	r.Helper()
	for _, rs := range r.RealServers {
		for _, s := range r.Sites {
			r.must("route", rs.NS.Route(netip.PrefixFrom(s.Endpoint, s.Endpoint.BitLen()), r.Director.RS.Addrs[0], rs.DR.Name))
		}
	}
}

// answered sends datagrams from a port of a site and counts those that come back from the VIP.
func (r *rig) answered(s *lab.Site, port uint16, count int) int {
	r.Helper()
	to := netip.AddrPortFrom(s.VIP, datagramPort)
	c := r.socket(s.NS, netip.AddrPortFrom(s.Endpoint, port))
	good, buf := 0, make([]byte, 2000)
	for range count {
		r.send(c, to, 1, 100)
		r.must("set the deadline", c.SetReadDeadline(time.Now().Add(time.Second)))
		if n, from, err := c.ReadFromUDPAddrPort(buf); err == nil && n == 100 && from == to {
			good++
		}
	}
	return good
}

// echo answers every datagram at an address and port of a machine, for the test's life.
func (r *rig) echo(ns *lab.Namespace, at netip.AddrPort) {
	r.Helper()
	c := r.socket(ns, at)
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return // closed
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from) // one that cannot be sent is a lost one
		}
	}()
}

// rewritten insists that since a moment a site's packets came to one real server, with its own address for destination, and
// what goes back to the site's subnet to the same.
func (r *rig) rewritten(s *lab.Site, since mark) {
	r.Helper()
	for _, rs := range r.RealServers {
		tunnel, subnet := 0, 0
		for _, p := range r.w.captures[rs.Name].Seen()[since[rs.Name]:] {
			switch {
			case p.Proto == unix.IPPROTO_UDP && p.Src == s.Endpoint && p.Dst == rs.DR.Addrs[0]: // and no word of the site about what a device said that came up
				tunnel++
			case inside(s, p.Dst):
				subnet++
			}
		}
		if here := rs == r.placed(s); here != (tunnel > 0) || here != (subnet > 0) {
			r.Errorf("%s is at %s; %s was given %d packets of its tunnel and %d to its subnet", s.Name, r.placed(s).Name, rs.Name, tunnel, subnet)
		}
	}
}

// TestIPVSRefuses: what IPVS has no handler for is refused where it is asked for, and the plane that can is named.
func TestIPVSRefuses(t *testing.T) {
	requireGuest(t)
	r := newRig(t, setup{plane: "ipvs", lab: lab.Options{Sites: 1, RealServers: 1, IPv6: true}, service: serviceFor("dr", esp)})
	r.serve()
	for _, p := range []string{"gre", "ipip", "l2tp", "tcp/443", "ah"} { // AH for its IPv6 VIP
		_, err := r.d.Client.PutService(r.ctx, api.Service{Name: "refused", VIPs: []string{"192.0.2.20", "2001:db8::20"}, Protocols: []string{p}, Method: "dr"})
		r.refused(p, err, "protocols", "plane: xdp")
	}
}

// refused insists that a request was refused with a fault of a field whose remedy says what to do.
func (r *rig) refused(what string, err error, field, remedy string) {
	r.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity {
		r.Errorf("%s: got %v, want a refusal", what, err)
		return
	}
	for _, f := range p.Errors {
		if strings.HasPrefix(f.Field, field) && strings.Contains(f.Remedy, remedy) {
			return
		}
	}
	r.Errorf("%s: refused with %v, want a fault of %s whose remedy is %q", what, err, field, remedy)
}
