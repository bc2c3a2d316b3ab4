package guest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// TestUnknownEndpointIsDropped: what nobody pushed reaches no real server, and is told nothing.
func TestUnknownEndpointIsDropped(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: 4, RealServers: 2, IPv6: true}, service: serviceFor("dr", datagrams, esp)})
		r.serve()
		const count = 20
		for _, s := range r.Sites[:2] {
			heard, err := s.NS.Capture(s.Port)
			r.must("capture", err)
			defer heard.Close()
			since := r.w.mark()
			c := r.socket(s.NS, netip.AddrPortFrom(s.Endpoint, 40000))
			r.send(c, netip.AddrPortFrom(s.VIP, datagramPort), count, 100)
			r.send(c, netip.AddrPortFrom(s.VIP, datagramPort+1), count, 100) // a port of no service
			r.must("send ESP", s.NS.Run(func() error { return sendESP(s.Endpoint, s.VIP, count) }))
			r.rest(time.Second) // nothing is what has to come
			if all := r.w.met(s, since); len(all) > 0 {
				r.Errorf("%s: nobody pushed it, and real servers were given %+v", s.Name, all)
			}
			if n := len(slices.DeleteFunc(heard.Seen(), func(p lab.Seen) bool { return p.Dst != s.Endpoint })); n > 0 {
				r.Errorf("%s: %d packets came back, want silence", s.Name, n)
			}
		}
	})
}

// sendESP sends packets of ESP that nobody can decrypt.
func sendESP(from, to netip.Addr, count int) error {
	domain, sockaddr := unix.AF_INET, func(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet4{Addr: a.As4()} }
	if from.Is6() {
		domain, sockaddr = unix.AF_INET6, func(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet6{Addr: a.As16()} }
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ESP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sockaddr(from)); err != nil {
		return err
	}
	for i := range count {
		if err := unix.Sendto(fd, append([]byte{0, 0, 0x30, 1, 0, 0, 0, byte(i)}, make([]byte, 64)...), 0, sockaddr(to)); err != nil {
			return err
		}
	}
	return nil
}

// TestUnknownEndpointIsSpread: with `unknown: hash` endpoints that nobody pushed are spread over the real servers, each stays
// with one, and a pin that comes later takes over with the next packet.
func TestUnknownEndpointIsSpread(t *testing.T) {
	onPlanes(t, func(t *testing.T, plane string) {
		service := serviceFor("dr", datagrams)
		service.Unknown = "hash"
		const sites, count = 24, 5
		r := newRig(t, setup{plane: plane, lab: lab.Options{Sites: sites, SiteNamespaces: 1, RealServers: 3}, service: service})
		r.serve()
		r.rest(time.Second) // real servers that were just seen alive join those that endpoints are spread over one by one
		socks := r.strangers()
		since := r.w.mark()
		first := r.spread(socks, since, count)
		used := map[string]int{}
		for _, at := range first {
			used[at]++
		}
		r.Logf("%d endpoints at %v", sites, used)
		if len(used) != len(r.RealServers) {
			r.Errorf("%d endpoints use %v, want all real servers", sites, used)
		}
		if again := r.spread(socks, r.w.mark(), count); !maps.Equal(first, again) {
			r.Errorf("endpoints were at %v, and then at %v", first, again)
		}
		r.must("stop", r.d.Stop())
		r.must("start", r.d.Start(r.ctx))
		r.rest(time.Second)
		moved := 0
		for name, at := range r.spread(socks, r.w.mark(), count) {
			if first[name] != at {
				moved++
			}
		}
		measured(t, "unknown_moved_by_restart", moved, fmt.Sprintf("of_%d", sites), "plane="+plane)
		first = r.spread(socks, r.w.mark(), count)
		s := r.Sites[0]
		r.must("push", r.d.Push(r.ctx, s))
		for _, rs := range r.RealServers { // wherever it was before, two of these are elsewhere
			_, err := r.d.Client.Repin(r.ctx, s.Name, api.RepinRequest{To: rs.Name})
			r.must("repin", err)
			want := maps.Clone(first)
			want[s.Name] = rs.Name
			if got := r.spread(socks, r.w.mark(), count); !maps.Equal(want, got) {
				r.Errorf("with %s pinned to %s: endpoints are at %v, want %v", s.Name, rs.Name, got, want)
			}
		}
	})
}

// strangers are a socket for each site.
func (r *rig) strangers() map[*lab.Site]func(count int) {
	all := map[*lab.Site]func(int){}
	for _, s := range r.Sites {
		c := r.socket(s.NS, netip.AddrPortFrom(s.Endpoint, 40000))
		all[s] = func(count int) { r.send(c, netip.AddrPortFrom(s.VIP, datagramPort), count, 100) }
	}
	return all
}

// spread lets all sites send, and tells at which one real server each arrived.
func (r *rig) spread(all map[*lab.Site]func(int), since mark, count int) map[string]string {
	r.Helper()
	at := map[string]string{}
	for s, send := range all {
		send(count)
		r.until(30*time.Second, "datagrams of "+s.Name, func() error {
			met := r.w.met(s, since)
			for name, m := range met {
				at[s.Name] = name
				if len(met) == 1 && m.Tunnel == count {
					return nil
				}
			}
			return fmt.Errorf("%d datagrams were given to %+v", count, met)
		})
	}
	return at
}
