package route

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunneldirector/integration/spaces"
)

var equal = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// nexthop is one that leads to real server i of the lab.
func nexthop(id uint32, v6 bool, i int) Nexthop {
	if v6 {
		return Nexthop{ID: id, V6: true, Gateway: gateways6[i], Link: "rs0"}
	}
	return Nexthop{ID: id, Gateway: gateways4[i], Link: "rs0"}
}

func (l *lab) nexthops(t testing.TB) (list []Nexthop) {
	t.Helper()
	for n, err := range l.t.Nexthops() {
		must(t, err)
		list = append(list, n)
	}
	return list
}

func (l *lab) routes(t testing.TB, table uint32) (list []Route) {
	t.Helper()
	for r, err := range l.t.Routes(table) {
		must(t, err)
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Route) int { return strings.Compare(a.String(), b.String()) })
	return list
}

func TestNexthops(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	a := nexthop(1, false, 0)
	want := []Nexthop{a, {ID: 2, Blackhole: true}, nexthop(3, true, 1), {ID: 4, V6: true, Blackhole: true}}
	must(t, l.t.SetNexthops(ctx, want))
	if diff := cmp.Diff(want, l.nexthops(t), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Fatal(diff)
	}
	for name, n := range map[string]Nexthop{
		"to another gateway": nexthop(1, false, 1),
		"to a blackhole":     {ID: 1, Blackhole: true},
		"from a blackhole":   a,
	} {
		must(t, l.t.SetNexthops(ctx, []Nexthop{n}))
		if got := l.nexthops(t)[0]; got != n {
			t.Errorf("%s: %v, want %v", name, got, n)
		}
	}
	// A second daemon adopts what the first made, and makes no more members of it.
	second := open(t)
	must(t, second.SetNexthops(ctx, want))
	ids := map[uint32]bool{}
	for o, err := range second.objects() {
		must(t, err)
		ids[o.id] = true
	}
	if len(ids) != len(want)+4+3 { // hops, and the shared ones
		t.Errorf("%d nexthop objects are there: %v", len(ids), ids)
	}
}

// A nexthop that is set touches no route of another that has the same hop.
func TestNexthopsShareHops(t *testing.T) {
	l := newLab(t)
	l.director.Sysctl("net/ipv4/nexthop_compat_mode", "1") // a route that is touched is announced
	for i, p := range []netip.Prefix{prefix("10.0.0.0/8"), prefix("2001:db8::/32")} {
		v6 := i == 1
		r := Route{table, p, 1, 10}
		must(t, l.t.SetNexthops(t.Context(), []Nexthop{nexthop(1, v6, 0)}))
		must(t, l.t.SetRoutes(t.Context(), []Route{r}))
		c, err := dial(int(l.director.NS), 1<<(unix.RTNLGRP_IPV4_ROUTE-1)|1<<(unix.RTNLGRP_IPV6_ROUTE-1))
		must(t, err)
		defer c.close()
		marker := Route{table + 1, p, 0, 10}
		must(t, l.t.SetNexthops(t.Context(), []Nexthop{nexthop(2, v6, 0)}))
		must(t, l.t.SetRoutes(t.Context(), []Route{marker}))
		for got := (Route{}); got != marker; {
			in, err := c.receive()
			must(t, err)
			must(t, split(in, func(h unix.NlMsghdr, body []byte) error {
				f, _ := parseRoute(h.Type, body)
				if got = f.Route; got.Table == table {
					t.Errorf("announced: %v", got)
				}
				return nil
			}))
		}
		must(t, l.t.DeleteRoutes(t.Context(), []Route{r, marker}))
		must(t, l.t.DeleteNexthops(t.Context(), []uint32{1, 2}))
	}
}

// An interface is its name: packets do not go on by one that had it before.
func TestNexthopsFollowName(t *testing.T) {
	l := newLab(t)
	want := []Nexthop{nexthop(1, false, 0)}
	must(t, l.t.SetNexthops(t.Context(), want))
	was := l.director.Link("rs0")
	if netlink.LinkSetName(was, "rs1") != nil { // older kernels rename only what is down, and take its nexthops away then
		l.director.Down("rs0")
		must(t, netlink.LinkSetName(was, "rs1"))
	}
	a, err := netlink.ParseAddr("192.0.2.1/24")
	must(t, err)
	must(t, netlink.AddrDel(was, a))
	spaces.Wire(l.director, "rs0", l.target, "eth1")
	l.director.Give("rs0", "192.0.2.1/24")
	must(t, l.t.SetNexthops(t.Context(), want))
	if got := l.nexthops(t); got[0] != want[0] {
		t.Errorf("%v is there, want %v", got[0], want[0])
	}
}

func TestNexthopsRefuse(t *testing.T) {
	l := newLab(t)
	must(t, l.t.SetNexthops(t.Context(), []Nexthop{nexthop(1, false, 0), nexthop(9, false, 0)}))
	far := Nexthop{ID: 1, Gateway: netip.MustParseAddr("198.51.100.1"), Link: "rs0"}
	for name, tt := range map[string]struct {
		n    Nexthop
		down bool
	}{
		"no id":            {n: Nexthop{Blackhole: true}},
		"a member's id":    {n: Nexthop{ID: firstHop, Blackhole: true}},
		"nothing":          {n: Nexthop{ID: 1}},
		"both":             {n: Nexthop{ID: 1, Blackhole: true, Gateway: gateways4[0], Link: "rs0"}},
		"other family":     {n: Nexthop{ID: 1, Gateway: gateways6[0], Link: "rs0"}},
		"no link":          {n: Nexthop{ID: 1, Gateway: gateways4[0]}},
		"not a neighbour":  {n: far},
		"no such link":     {n: Nexthop{ID: 1, Gateway: gateways4[0], Link: "rs7"}, down: true},
		"no tunnel device": {n: Nexthop{ID: 1, Encap: gateways4[0]}, down: true},
	} {
		err := l.t.SetNexthops(t.Context(), []Nexthop{tt.n, nexthop(9, false, 1)})
		if err == nil || errors.Is(err, ErrDown) != tt.down || !strings.Contains(err.Error(), "nexthop") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What was not taken drops, and does not lead where it did before; what was asked for beside it is done.
	if got := l.nexthops(t); len(got) != 2 || got[0] != (Nexthop{ID: 1}) || got[1] != nexthop(9, false, 1) {
		t.Errorf("nexthops after that: %v", got)
	}
	err := l.t.SetNexthops(t.Context(), []Nexthop{far, {ID: 2, Gateway: gateways4[0], Link: "rs7"}})
	if err == nil || errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "nexthop 0x1 (via 198.51.100.1 on rs0)") {
		t.Errorf("with a fault beside a link that is down: %v", err)
	}
}

func TestRoutes(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	must(t, l.t.SetNexthops(ctx, []Nexthop{nexthop(1, false, 0), nexthop(2, true, 0), nexthop(3, false, 1)}))
	want := []Route{
		{table, prefix("10.0.0.0/8"), 0, 20}, {table, prefix("10.0.0.0/8"), 1, 10}, {table, prefix("10.1.0.0/16"), 1, 10},
		{table, prefix("2001:db8::/32"), 0, 20}, {table, prefix("2001:db8::/32"), 2, 10}, {table + 1, prefix("0.0.0.0/0"), 0, 20}, {table + 1, prefix("::/0"), 2, 20},
	}
	byName := func(a, b Route) int { return strings.Compare(a.String(), b.String()) }
	slices.SortFunc(want, byName)
	for range 2 {
		must(t, l.t.SetRoutes(ctx, want))
		if diff := cmp.Diff(want, l.routes(t, 0), equal); diff != "" {
			t.Fatal(diff)
		}
	}
	if got := l.routes(t, table+1); len(got) != 2 {
		t.Errorf("table %d: %v", table+1, got)
	}
	if got := l.routes(t, 99); len(got) != 0 {
		t.Errorf("a table that is not there: %v", got)
	}
	for i, r := range want {
		if r.Prefix == prefix("10.1.0.0/16") {
			want[i].Nexthop = 3
		}
	}
	must(t, l.t.SetRoutes(ctx, want))
	if diff := cmp.Diff(want, l.routes(t, 0), equal); diff != "" {
		t.Fatal(diff)
	}
	err := l.t.DeleteNexthops(ctx, []uint32{1, 3, 77})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "10.1.0.0/16 in table 7401") || len(l.nexthops(t)) != 3 {
		t.Fatalf("deleting nexthops in use: %v; left: %v", err, l.nexthops(t))
	}
	for range 2 {
		must(t, l.t.DeleteRoutes(ctx, want))
	}
	if got := l.routes(t, 0); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	must(t, l.t.DeleteNexthops(ctx, []uint32{1, 3}))
	if got := l.nexthops(t); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
	must(t, l.t.DeleteNexthops(ctx, []uint32{2}))
	for o, err := range l.t.objects() {
		t.Errorf("left: %+v, %v", o, err)
	}
	if _, err := netlink.LinkByName(SinkName); err == nil {
		t.Error("the sink is left")
	}
}

func TestRoutesRefuse(t *testing.T) {
	l := newLab(t)
	good := Route{table, prefix("10.0.0.0/8"), 0, 20}
	for name, r := range map[string]Route{
		"not canonical": {table, netip.MustParsePrefix("10.0.0.1/8"), 0, 20}, "no table": {0, prefix("10.0.0.0/8"), 0, 20},
		"no metric": {table, prefix("10.0.0.0/8"), 0, 0}, "no prefix": {Table: table, Metric: 1},
		"no such nexthop": {table, prefix("10.3.0.0/16"), 12345, 20}, "other family": {table, prefix("2001:db8::/32"), 1, 20},
	} {
		if name == "other family" {
			must(t, l.t.SetNexthops(t.Context(), []Nexthop{nexthop(1, false, 0)}))
		}
		if err := l.t.SetRoutes(t.Context(), []Route{r, good}); err == nil || !strings.Contains(err.Error(), r.String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff([]Route{good}, l.routes(t, 0), equal); diff != "" {
		t.Error(diff)
	}
}

// Somebody else's routes in our tables stay, and are told.
func TestForeign(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	dst, err := netlink.ParseIPNet("10.1.0.0/16")
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{Table: table, Dst: dst, Type: unix.RTN_UNREACHABLE, Priority: 10, Protocol: unix.RTPROT_STATIC}))
	must(t, l.t.SetNexthops(ctx, []Nexthop{nexthop(1, false, 0)}))
	ours := []Route{{table, prefix("10.1.0.0/16"), 1, 10}, {table, prefix("10.2.0.0/16"), 1, 10}}
	err = l.t.SetRoutes(ctx, ours)
	if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "10.1.0.0/16 in table 7401, metric 10") || strings.Contains(err.Error(), "10.2") {
		t.Errorf("set beside somebody else's: %v", err)
	}
	if diff := cmp.Diff(ours[1:], l.routes(t, table), equal); diff != "" {
		t.Error(diff)
	}
	must(t, l.t.DeleteRoutes(ctx, ours))
	foreign, err := l.t.Foreign(table)
	must(t, err)
	if diff := cmp.Diff([]Foreign{{Route{table, prefix("10.1.0.0/16"), 0, 10}, unix.RTPROT_STATIC}}, foreign, equal); diff != "" {
		t.Error(diff)
	}
}

func TestRules(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	foreign := netlink.NewRule()
	foreign.Priority, foreign.Table = 7000, table
	must(t, netlink.RuleAdd(foreign))
	a := Rule{Priority: 7400, IIF: "lo", To: prefix("100.64.0.0/16"), Table: table}
	b := Rule{Priority: 7400, V6: true, IIF: "lo", To: prefix("2001:db8:7::/48"), Table: table}
	c := Rule{Priority: 7401, IIF: "in0", Table: table}
	for _, want := range [][]Rule{{a, b, c}, {a, b, c}, {b}, {a, c}, {}} {
		must(t, l.t.SetRules(ctx, want))
		ours, others, err := l.t.Rules()
		must(t, err)
		slices.SortFunc(ours, func(a, b Rule) int { return strings.Compare(a.String(), b.String()) })
		slices.SortFunc(want, func(a, b Rule) int { return strings.Compare(a.String(), b.String()) })
		if !slices.Equal(ours, want) || !slices.Contains(others, Rule{Priority: 7000, Table: table}) {
			t.Fatalf("rules: %v; want %v; others: %v", ours, want, others)
		}
	}
	if err := l.t.SetRules(ctx, []Rule{{Priority: 1, To: prefix("10.0.0.0/8"), V6: true, Table: 9}}); err == nil {
		t.Error("a rule of two families was taken")
	}
}
