package route

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// Nothing of ours is left, what is somebody else's is, and a second time is as good.
func TestUninstall(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	must(t, l.t.Uninstall(ctx))
	l.fill(t, 100)
	foreign := netlink.NewRule()
	foreign.Priority, foreign.Table = 7000, table
	must(t, netlink.RuleAdd(foreign))
	dst, err := netlink.ParseIPNet("10.1.0.0/16")
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{Table: table, Dst: dst, LinkIndex: l.director.Link("rs0").Attrs().Index}))
	tunnels := l.t.EnsureTunnel(false) == nil // where the kernel can
	for range 2 {
		must(t, l.t.Uninstall(ctx))
		for o, err := range l.t.objects() {
			t.Errorf("left: %+v, %v", o, err)
		}
		ours, others, err := l.t.Rules()
		must(t, err)
		theirs, err := l.t.Foreign(table)
		must(t, err)
		if len(l.routes(t, 0)) > 0 || len(ours) > 0 || len(others) == 0 || len(theirs) != 1 {
			t.Errorf("left: %v, %v; of others: %v, %v", l.routes(t, 0), ours, others, theirs)
		}
		links, err := netlink.LinkList()
		must(t, err)
		for _, link := range links {
			if strings.HasPrefix(link.Attrs().Name, "td-") {
				t.Errorf("left: %s (tunnels: %t)", link.Attrs().Name, tunnels)
			}
		}
	}
}
