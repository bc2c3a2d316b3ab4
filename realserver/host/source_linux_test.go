package host

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// fromVIP gives the host routes that have the VIPs for their source, as terminators need them that send on their own account.
func (s site) fromVIP() {
	s.rs.ip(strings.NewReplacer("VIP4", vip4.String(), "VIP6", vip6.String()).Replace(`route replace default via 192.0.2.1 src VIP4
route add 198.18.0.0/24 dev eth1 src VIP4 table 99
route add 198.18.1.0/24 via 198.18.0.9 dev eth1 onlink src VIP4 metric 7 table 99
route add 198.18.2.0/24 src VIP4 nexthop via 192.0.2.1 weight 2 nexthop dev eth1
route add 198.18.3.0/24 via 192.0.2.1 src 192.0.2.10
route replace default via 2001:db8::1 src VIP6
route add 2001:db8:77::/64 dev eth1 src VIP6
`))
}

// routes are those of all tables in which packets leave, as ip prints them, sorted.
func (s site) routes() []string {
	out := strings.Split(s.rs.ip("route show table all\n-6 route show table all\n"), "\n")
	out = slices.DeleteFunc(out, func(l string) bool {
		return l == "" || strings.Contains(l, "proto kernel") || strings.HasPrefix(l, "multicast") || strings.Contains(l, "proto 126")
	})
	for i := range out {
		out[i] = strings.Join(strings.Fields(out[i]), " ")
	}
	slices.Sort(out)
	return out
}

// TestRoutesFromAVIPStay: the kernel deletes a route with the address that is its source. Who takes the VIP away keeps the route,
// without it, and says so.
func TestRoutesFromAVIPStay(t *testing.T) {
	for name, take := range map[string]func(*testing.T, site) []Change{
		"revert": func(t *testing.T, s site) []Change {
			done, err := s.host(t, s.instance()).Revert(t.Context())
			must(t, err)
			return done
		},
		"apply without the VIPs": func(t *testing.T, s site) []Change {
			in := s.instance()
			in.VIPs = []netip.Addr{netip.MustParseAddr("203.0.113.77"), netip.MustParseAddr("2001:db8:5::77")}
			planned, err := s.host(t, in).Plan(t.Context())
			must(t, err)
			done, err := s.host(t, in).Apply(t.Context())
			must(t, err)
			if len(planned) != len(done) {
				t.Errorf("planned %v, did %v", planned, done)
			}
			return done
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			_, err := s.host(t, s.instance()).Apply(t.Context())
			must(t, err)
			s.fromVIP()
			want := s.routes()
			for i := range want {
				want[i] = strings.NewReplacer(" src "+vip4.String(), "", " src "+vip6.String(), "").Replace(want[i])
			}
			slices.Sort(want)
			done := take(t, s)
			got := s.routes()
			if !slices.Equal(got, want) {
				t.Errorf("routes:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			told := 0
			for _, c := range done {
				if strings.HasPrefix(c.Object, "route to ") && strings.HasPrefix(c.From, "src ") {
					told++
				}
			}
			if told != 6 {
				t.Errorf("%d of 6 routes are told of: %v", told, done)
			}
		})
	}
}

// TestRoutesOfAVIPThatMoves: where another holder has the VIP first, its routes are as they were.
func TestRoutesOfAVIPThatMoves(t *testing.T) {
	s := newSite(t)
	s.rs.ip("link add td-vips type veth peer name td-far\nlink set td-vips up\nlink set td-far up\n")
	_, err := s.host(t, s.instance()).Apply(t.Context())
	must(t, err)
	s.fromVIP()
	want := s.routes()
	in := s.instance()
	in.Holder = "td-vips"
	done, err := s.host(t, in).Apply(t.Context())
	must(t, err)
	if got := s.routes(); !slices.Equal(got, want) {
		t.Errorf("routes:\n%s\nwere:\n%s\nafter %v", strings.Join(got, "\n"), strings.Join(want, "\n"), done)
	}
}
