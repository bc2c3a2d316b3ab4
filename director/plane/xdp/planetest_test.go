//go:build linux

package xdp

import (
	"context"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"testing"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/planetest"
)

// A neighbourly plane knows the MAC addresses of planetest's hosts at once.
type neighbourly struct {
	*Plane
	t testing.TB
}

func (n neighbourly) Apply(ctx context.Context, u plane.Update) error {
	if err := n.Plane.Apply(ctx, u); err != nil || u.Config == nil {
		return err
	}
	return n.meet(u.Config)
}

func (n neighbourly) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	if err := n.Plane.Replace(ctx, c, entries); err != nil {
		return err
	}
	return n.meet(&c)
}

func (n neighbourly) meet(c *plane.Config) error {
	fakeLinks(n.t, n.Plane, c.RealServers, "rs0")
	for _, rs := range c.RealServers {
		hosts := planetest.DefaultHosts()
		h := slices.IndexFunc(hosts, func(h planetest.Host) bool { return slices.Equal(h.Addrs, rs.Addrs) })
		if h < 0 {
			return fmt.Errorf("real server %d is on no host", rs.Index)
		}
		for _, v6 := range []bool{false, true} {
			var l forwardLink
			k := linkIndex(rs.Index, v6)
			if err := n.Plane.o.TdLinks.Lookup(&k, &l); err != nil {
				return err
			}
			l.Mac = [6]byte(hosts[h].MAC)
			if err := n.Plane.o.TdLinks.Put(&k, &l); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestHistories(t *testing.T) {
	interfaces := planetest.DefaultInterfaces()
	p := oneNamespace(t, interfaces, nil)
	macs := map[string]net.HardwareAddr{}
	for _, i := range p.ports.all() {
		macs[i.Name] = i.mac[:]
	}
	options := p.options
	must(t, p.Close())
	var opened *Plane
	planetest.Run(t, planetest.Options{
		Interfaces: interfaces,
		Histories:  15,
		MACs:       macs,
		Sources:    []netip.Addr{addr("10.9.0.1"), addr("2001:db8:9::1")},
		Open: func(t testing.TB) plane.Plane {
			q, err := Open(options)
			must(t, err)
			opened = q
			return neighbourly{q, t}
		},
		Inject: func(frame []byte, name string) (planetest.Outcome, error) {
			action, out := run(t, opened, name, frame)
			o := planetest.Outcome{Frame: out}
			switch action {
			case xdpDrop:
				o.Verdict = planetest.Drop
			case xdpPass:
				o.Verdict = planetest.Pass
			case xdpTX:
				o.Verdict, o.Interface = planetest.TX, name
			case xdpRedirect:
				o.Verdict = planetest.Redirect
			default:
				return o, fmt.Errorf("XDP action %d", action)
			}
			return o, nil
		},
	})
}
