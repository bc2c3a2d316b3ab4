package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/sysctl"
)

// firewall looks for what would drop the real server's packets. What a rule asks that is not known beforehand makes a drop a
// possible one.
func (e *exam) firewall() error {
	rules, err := readRuleset()
	if err != nil {
		return err
	}
	type culprit struct {
		what []string
		sure bool
	}
	found := map[place]*culprit{}
	var order, invalid []place
	var errs []error
	for _, f := range e.flows() {
		drops, bad, err := rules.through(f)
		errs = append(errs, err)
		for _, d := range drops {
			c := found[d.place]
			if c == nil {
				c = &culprit{}
				found[d.place], order = c, append(order, d.place)
			}
			if c.sure = c.sure || d.sure; !slices.Contains(c.what, f.what) {
				c.what = append(c.what, f.what)
			}
		}
		for _, p := range bad {
			if !slices.Contains(invalid, p) {
				invalid = append(invalid, p)
			}
		}
	}
	for _, p := range order {
		c := found[p]
		id, severity, verb := "firewall-may-drop", Risks, "may drop"
		if c.sure {
			id, severity, verb = "firewall-drops", Breaks, "drops"
		}
		e.find(id, severity, fmt.Sprintf("%v %s %s", p, verb, strings.Join(c.what, "; ")), "they do not come through",
			e.command("nft -a list chain %s", p.chainName())+", and let them in before")
	}
	e.conntrack(invalid)
	return errors.Join(append(errs, e.legacy())...)
}

// flows are what has to get through.
func (e *exam) flows() (list []*flow) {
	in, forward, out := []*nftables.ChainHook{nftables.ChainHookPrerouting, nftables.ChainHookInput},
		[]*nftables.ChainHook{nftables.ChainHookPrerouting, nftables.ChainHookForward}, []*nftables.ChainHook{nftables.ChainHookOutput}
	for _, vip := range e.in.VIPs {
		v6 := vip.Is6()
		by, index, site := e.in.Interface, e.iface.Attrs().Index, e.in.site(v6)
		if e.in.Method == Tunnel {
			if own, err := e.own(v6); err == nil {
				p := protocol{number: 4}
				if v6 {
					p.number = 41
				}
				list = append(list, &flow{what: fmt.Sprintf("IPIP to %v", own), hooks: in, v6: v6, iif: by, index: index, proto: p.number, dst: own, local: true})
			}
			by = decapName(e.in, v6)
			if l, err := e.link(by); err == nil && l != nil {
				index = l.Attrs().Index
			}
		}
		for name, p := range e.served() {
			list = append(list,
				&flow{what: fmt.Sprintf("%s to the VIP %v", name, vip), hooks: in, v6: v6, iif: by, index: index, proto: p.number, src: site, dst: vip, port: p.port, local: true},
				&flow{what: fmt.Sprintf("%s from the VIP %v", name, vip), hooks: out, v6: v6, proto: p.number, src: vip, dst: site})
		}
		if of(e.in.VIPs, v6) == vip {
			list = append(list, &flow{what: fmt.Sprintf("what comes by %s for subnets (IPv%s)", by, number(v6)), hooks: forward, v6: v6, iif: by, index: index, src: netip.Addr{}})
		}
	}
	slices.SortStableFunc(list, func(a, b *flow) int { return strings.Compare(a.what, b.what) })
	return list
}

// served are the protocols at the VIPs, by name.
func (e *exam) served() map[string]protocol {
	list := map[string]protocol{}
	for _, s := range e.in.Protocols {
		if p, err := parseProtocol(s); err == nil {
			list[s] = p
		}
	}
	if e.in.ProbePort != 0 {
		list[fmt.Sprintf("probes (udp/%d)", e.in.ProbePort)] = protocol{unix.IPPROTO_UDP, e.in.ProbePort}
	}
	return list
}

// conntrack: a connection within a tunnel that moves here has begun elsewhere.
func (e *exam) conntrack(invalid []place) {
	liberal, loose := "net/netfilter/nf_conntrack_tcp_be_liberal", "net/netfilter/nf_conntrack_tcp_loose"
	if len(invalid) == 0 || e.number(liberal) == 1 && e.number(loose) != 0 {
		return
	}
	e.find("ct-invalid", Risks, fmt.Sprintf("%v drops what conntrack calls invalid", invalid[0]),
		"TCP connections within a tunnel that moved to this host began elsewhere, and conntrack has not seen their windows: they may hang",
		e.command("%s", sysctl.Command(sysctl.Setting{Path: liberal, Value: 1}, sysctl.Setting{Path: loose, Value: 1})))
}

// legacy: the rules of iptables of old have no interface to read them by but their own program.
func (e *exam) legacy() error {
	for v6, file := range map[bool]string{false: "ip_tables_names", true: "ip6_tables_names"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(strings.TrimSpace(string(b))) == 0 || !e.in.has(v6) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for legacy iptables: %w", err)
		}
		program := map[bool]string{false: "iptables-legacy", true: "ip6tables-legacy"}[v6]
		e.find("firewall-legacy", Notes, "there are tables of "+program+": "+strings.Join(strings.Fields(string(b)), ", "),
			"they are not looked at here, and may drop the real server's packets", e.command("%s-save", program))
	}
	return nil
}
