//go:build linux

package xdp

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf/link"

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

// An opener opens a plane again and again. Most times it gives the new plane the programs that are loaded already, which
// are the same over the same pinned maps: the verifier takes longer than all the rest of a history.
type opener struct {
	options  Options
	times    int
	programs forwardPrograms
}

func (o *opener) open(t testing.TB) *Plane {
	o.times++
	if o.times%50 == 1 {
		p, err := Open(o.options)
		must(t, err)
		must(t, errors.Join(closePrograms(o.programs), cloneTo(&o.programs, p.o.forwardPrograms)))
		return p
	}
	p := &Plane{options: o.options, log: o.options.Logger, poke: make(chan struct{}, 1)}
	must(t, p.findInterfaces())
	dir := p.options.layoutDir()
	must(t, p.load(dir, &p.o.forwardMaps))
	must(t, cloneTo(&p.o.forwardPrograms, o.programs))
	p.hook = &hook{log: p.log, root: p.options.PinPath, dir: dir, prog: p.o.TdForward, links: map[int]link.Link{}}
	must(t, p.start())
	return p
}

func closePrograms(p forwardPrograms) error {
	return errors.Join(p.TdForward.Close(), p.TdExplain.Close())
}

func cloneTo(to *forwardPrograms, from forwardPrograms) (err error) {
	if to.TdForward, err = from.TdForward.Clone(); err == nil {
		to.TdExplain, err = from.TdExplain.Clone()
	}
	return err
}

func TestHistories(t *testing.T) {
	interfaces := planetest.DefaultInterfaces()
	p := oneNamespace(t, interfaces, nil)
	macs := map[string]net.HardwareAddr{}
	for _, i := range p.ports.all() {
		macs[i.Name] = i.mac[:]
	}
	o := opener{options: p.options}
	must(t, p.Close())
	defer func() { must(t, closePrograms(o.programs)) }()
	var opened *Plane
	planetest.Run(t, planetest.Options{
		Interfaces: interfaces,
		Histories:  30,
		MACs:       macs,
		Sources:    []netip.Addr{addr("10.9.0.1"), addr("2001:db8:9::1")},
		Open: func(t testing.TB) plane.Plane {
			opened = o.open(t)
			return neighbourly{opened, t}
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
