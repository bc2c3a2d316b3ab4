//go:build linux

package xdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// reopen closes p and opens another over what it left.
func reopen(t *testing.T, p *Plane, change func(*Options)) *Plane {
	t.Helper()
	o := p.options
	if change != nil {
		change(&o)
	}
	must(t, p.Close())
	q, err := Open(o)
	must(t, err)
	return q
}

// agree holds p against mem with this content.
func agree(t *testing.T, p *Plane, c plane.Config, entries []plane.Entry) {
	t.Helper()
	oracle := mem.New(threeSides)
	must(t, oracle.Replace(t.Context(), c, slices.Values(entries)))
	for i, q := range samplePackets() {
		if i%7 != 0 {
			continue
		}
		want, err := oracle.Lookup(q)
		must(t, err)
		got, err := p.Lookup(q)
		must(t, err)
		if d := cmp.Diff(want, got, addrEqual); d != "" {
			t.Fatalf("packet %+v: (-mem +xdp)\n%s", q, d)
		}
	}
}

func TestOpenAdopts(t *testing.T) {
	p := examplePlane(t)
	frame, err := buildFrame(plane.Packet{Src: addr("198.51.100.1"), Dst: addr("192.0.2.1"), Proto: 50, Hops: 9}, macOf(p, "tun"), siteMAC)
	must(t, err)
	run(t, p, "tun", frame)
	p = reopen(t, p, nil)
	agree(t, p, example(), exampleEntries()) // before anybody says a word
	replaceAll(t, p, example(), exampleEntries()...)
	agree(t, p, example(), exampleEntries())
	s, err := p.Stats()
	must(t, err)
	if s.RealServers[1].Packets != 1 || s.Capacity["td_pins4"].Entries != 8 {
		t.Errorf("after adoption: %+v", s)
	}
	if at, err := p.Seen(plane.EndpointKey{VIP: addr("192.0.2.1"), Addr: addr("198.51.100.1")}); err != nil || at.IsZero() {
		t.Errorf("last-seen lost: %v, %v", at, err)
	}
}

// TestReplaceByDifference goes through contents that have little in common, over a restart each.
func TestReplaceByDifference(t *testing.T) {
	p := examplePlane(t)
	full := exampleEntries()
	c2 := example()
	c2.Services, c2.Tenants[0].Covers = c2.Services[:2], []netip.Prefix{prefix("100.64.1.0/24")}
	c2.RealServers = c2.RealServers[:2]
	only := []plane.Entry{endpoint("192.0.2.1", "198.51.100.1", 0, 2, 1), endpoint("2001:db8::1", "2001:db8:f::3", 0, 2, 1), subnet(5, "10.1.0.0/16", 2, 1)}
	for _, step := range []struct {
		c       plane.Config
		entries []plane.Entry
	}{{c2, only}, {example(), full}, {c2, nil}, {plane.Config{}, nil}, {example(), full}} {
		p = reopen(t, p, nil)
		replaceAll(t, p, step.c, step.entries...)
		agree(t, p, step.c, step.entries)
	}
}

// TestApplyChanges: a cover hidden by a subnet comes back, prefix lengths come and go, a VIP's number outlives the VIP.
func TestApplyChanges(t *testing.T) {
	p := examplePlane(t)
	oracle := mem.New(threeSides)
	must(t, oracle.Replace(t.Context(), example(), slices.Values(exampleEntries())))
	without := example()
	without.Services = without.Services[1:]
	del := func(e plane.Entry) plane.Entry { e.Delete = true; return e }
	cover := subnet(5, "10.0.0.0/8", 2, 0)
	entries := exampleEntries()
	uncovered := example()
	uncovered.Tenants[1].Covers = nil
	example := example()
	for i, u := range []plane.Update{
		{Entries: []plane.Entry{cover}}, {Entries: []plane.Entry{del(cover)}},
		{Entries: []plane.Entry{cover}}, {Config: &uncovered}, {Entries: []plane.Entry{del(cover)}}, {Config: &example},
		{Config: &without}, {Entries: entries[:3]}, {Config: &example},
		{Entries: []plane.Entry{del(entries[0]), del(entries[2]), entries[2], entries[0], del(entries[11])}},
		{Entries: []plane.Entry{del(endpoint("203.0.113.99", "198.51.100.1", 0, 0, 0)), entries[0], entries[0]}},
		{Entries: []plane.Entry{subnet(0, "100.64.0.0/10", 1, 0), subnet(0, "100.64.1.5/32", 2, 0), subnet(0, "2001:db8:6401::9/128", 2, 0)}},
	} {
		must(t, oracle.Apply(t.Context(), u))
		must(t, p.Apply(t.Context(), u))
		for j, q := range samplePackets() {
			if (i+j)%9 != 0 {
				continue
			}
			want, err := oracle.Lookup(q)
			must(t, err)
			if got, err := p.Lookup(q); err != nil || cmp.Diff(want, got, addrEqual) != "" {
				t.Fatalf("step %d, packet %+v: %v (-mem +xdp)\n%s", i, q, err, cmp.Diff(want, got, addrEqual))
			}
		}
	}
}

// TestHiddenCoverOutlivesRestart: planetest found that a cover under a subnet of the same prefix was forgotten.
func TestHiddenCoverOutlivesRestart(t *testing.T) {
	p := examplePlane(t)
	e := subnet(0, "100.64.0.0/10", 1, 0)
	must(t, p.Apply(t.Context(), plane.Update{Entries: []plane.Entry{e}}))
	p = reopen(t, p, nil)
	e.Delete = true
	must(t, p.Apply(t.Context(), plane.Update{Entries: []plane.Entry{e}}))
	agree(t, p, example(), exampleEntries())
}

func TestFullTableSaysSo(t *testing.T) {
	p := oneNamespace(t, threeSides, func(o *Options) { o.MaxPins, o.MaxSubnets = 100, 100 })
	entries := func(yield func(plane.Entry) bool) {
		for i := range 200 {
			if !yield(endpoint("192.0.2.1", fmt.Sprintf("198.51.100.%d", i), 0, 1, 2)) {
				return
			}
		}
	}
	err := p.Replace(context.Background(), example(), entries)
	if err == nil || !strings.Contains(err.Error(), "td_pins4") || !strings.Contains(err.Error(), "MaxPins") || !strings.Contains(err.Error(), "100") {
		t.Fatalf("full: %v", err)
	}
	if u := p.pins.v4.usage(); u.Entries != 100 || u.Max != 100 {
		t.Errorf("usage %+v", u)
	}
	replaceAll(t, p, example(), exampleEntries()...)
	if u := p.pins.v4.usage(); u.Entries != 8 {
		t.Errorf("usage after recovery %+v", u)
	}
}

// TestOtherLayoutForwardsUntilReplace: other sizes are another directory; the old program forwards until the new maps are full.
func TestOtherLayoutForwardsUntilReplace(t *testing.T) {
	p := examplePlane(t)
	programs := func() (ids []uint32) {
		for _, i := range p.ports.all() {
			l, err := netlink.LinkByIndex(i.index)
			must(t, err)
			ids = append(ids, l.Attrs().Xdp.ProgId)
		}
		return ids
	}
	old := programs()
	p = reopen(t, p, func(o *Options) { o.MaxPins = 8192 })
	if !slices.Equal(programs(), old) {
		t.Error("the program was swapped before its maps were full")
	}
	replaceAll(t, p, example(), exampleEntries()...)
	now := programs()
	for i := range now {
		if now[i] == old[i] || now[i] == 0 {
			t.Errorf("programs %v after %v", now, old)
		}
	}
	dirs, err := os.ReadDir(p.options.PinPath)
	must(t, err)
	if len(dirs) != 1 || dirs[0].Name() != layout+"-8192-4096" {
		t.Errorf("layouts left: %v", dirs)
	}
	fakeLinks(t, p, example().RealServers, "rs")
	agree(t, p, example(), exampleEntries())
	p = reopen(t, p, nil)
	if len(p.hook.links) != len(threeSides) {
		t.Errorf("%d links adopted", len(p.hook.links))
	}
}

func TestUninstallLeavesNothing(t *testing.T) {
	p := examplePlane(t)
	for name, mode := range p.Modes() {
		if mode != "native" {
			t.Errorf("interface %s runs in mode %q", name, mode)
		}
	}
	must(t, p.Close())
	must(t, Uninstall(p.options.PinPath))
	if _, err := os.Stat(p.options.PinPath); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pin path: %v", err)
	}
	for _, i := range threeSides {
		l, err := netlink.LinkByName(i.Name)
		must(t, err)
		if x := l.Attrs().Xdp; x != nil && x.Attached {
			t.Errorf("%s still has program %d", i.Name, x.ProgId)
		}
	}
	must(t, Uninstall(p.options.PinPath))
}

func TestInterfaceTakenAway(t *testing.T) {
	p := examplePlane(t)
	reopen(t, p, func(o *Options) { o.Interfaces = o.Interfaces[:1] })
	for name, attached := range map[string]bool{"tun": true, "sub": false, "rs": false} {
		l, err := netlink.LinkByName(name)
		must(t, err)
		if x := l.Attrs().Xdp; (x != nil && x.Attached) != attached {
			t.Errorf("%s attached: %v, want %v", name, !attached, attached)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	ns := inNamespace(t)
	veth(t, "plain", "plainx")
	veth(t, "taken", "takenx")
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()}})
	must(t, err)
	defer prog.Close()
	taken, err := netlink.LinkByName("taken")
	must(t, err)
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: taken.Attrs().Index})
	must(t, err)
	defer l.Close()
	info, err := prog.Info()
	must(t, err)
	id, _ := info.ID()
	for _, c := range []struct {
		name string
		i    plane.Interface
		says []string
	}{
		{"missing", plane.Interface{Name: "nowhere0"}, []string{"nowhere0"}},
		{"foreign", plane.Interface{Name: "taken"}, []string{"taken", fmt.Sprint(id)}},
		{"rxvlan", plane.Interface{Name: "plain", VLANs: map[uint16]string{7: "blue"}}, []string{"ethtool -K plain rxvlan off"}},
		{"no Ethernet", plane.Interface{Name: "lo"}, []string{"lo"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime.LockOSThread()
			must(t, netns.Set(ns))
			path := pinPath(t)
			p, err := Open(Options{Interfaces: []plane.Interface{c.i}, PinPath: path, MaxPins: 16, MaxSubnets: 16})
			if err == nil {
				p.Close()
				t.Fatal("opened")
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what could not be opened left something at %s: %v", path, err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestNewEnough(t *testing.T) {
	for release, want := range map[string]bool{"6.1.0-28-amd64": true, "6.18.1": true, "7.0-rc1": true, "6.0.9": false, "5.15.0": false, "6.1": true, "x": false} {
		if newEnough(release) != want {
			t.Errorf("newEnough(%q) is %v", release, !want)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	p := examplePlane(t)
	for name, change := range map[string]func(*plane.Config){
		"masq":           func(c *plane.Config) { c.RealServers[0].Method = affinity.Masq },
		"index":          func(c *plane.Config) { c.RealServers[0].Index = 4096 },
		"service number": func(c *plane.Config) { c.Services[0].Num = 65 },
		"ring":           func(c *plane.Config) { c.Services[0].Ring = make([]plane.Target, 3) },
		"cover":          func(c *plane.Config) { c.Tenants[0].Covers = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} },
		"rules":          func(c *plane.Config) { c.Services[0].Match = make([]affinity.Match, 65) },
	} {
		c := example()
		change(&c)
		if err := p.Apply(t.Context(), plane.Update{Config: &c}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, e := range []plane.Entry{
		{Endpoint: plane.EndpointKey{VIP: addr("192.0.2.1"), Addr: addr("2001:db8::7")}},
		{Subnet: plane.SubnetKey{Prefix: netip.MustParsePrefix("10.0.0.1/8")}},
	} {
		if err := p.Apply(t.Context(), plane.Update{Entries: []plane.Entry{e}}); err == nil {
			t.Errorf("%+v: accepted", e)
		}
	}
	agree(t, p, example(), exampleEntries())
}
