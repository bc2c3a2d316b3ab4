package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/director/vip/sysctl"
)

// hearing is how long answers of the wire, or of our own stack, are waited for.
const hearing = 300 * time.Millisecond

// Doctor tells what is wrong with the host, whoever made it so; a host that is right has no findings. It changes nothing.
//
// What the kernel's routing makes of a packet it is asked itself: it goes through the reverse-path filter, rules and routes as a
// packet does. For a VIP and the own address one ARP request or neighbour solicitation goes out, to hear who else answers. Under
// Tunnel a real packet in IPIP goes from the host to itself and has to come out at the VIP. What is left to the directors' probes
// on the data path is the wire between: a switch, and a firewall's rules for the interface that directors send to, beyond
// what can be read of them.
//
// An error is about what could not be looked at; the findings are there.
func (h *Host) Doctor(ctx context.Context) ([]Finding, error) {
	st, err := loadState(h.cfg.StateFile)
	if err != nil {
		return nil, err
	}
	var found []Finding
	var errs []error
	for i := range h.cfg.Instances {
		in := &h.cfg.Instances[i]
		entered := false
		err := look(in.Space, func(v *view) error {
			entered = true
			e := &exam{plan: &plan{view: v, state: st, every: h.cfg.Instances, in: in}, ctx: ctx}
			err := e.all()
			found = append(found, e.found...)
			return err
		})
		if !entered && errors.Is(err, fs.ErrNotExist) {
			found, err = append(found, Finding{ID: "namespace-missing", Instance: in.Name, What: "there is no network namespace " + string(in.Space),
				Causes: "the real server is nowhere", Remedy: "ip netns add " + string(in.Space), Severity: Breaks}), nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("real server %s: %w", in.Name, err))
		}
	}
	return found, errors.Join(errs...)
}

// An exam is of one real server.
type exam struct {
	*plan
	ctx   context.Context
	found []Finding
}

func (e *exam) all() (err error) {
	if e.plan.all, err = e.addresses(); err != nil {
		return err
	}
	if ok, err := e.devices(); err != nil || !ok {
		return err
	}
	errs := []error{e.arp(), e.neighbours(), e.forwards(), e.sizes(), e.firewall(), e.passing(), e.wire()}
	for _, v6 := range []bool{false, true} {
		if e.in.has(v6) {
			errs = append(errs, e.arriving(v6), e.leaving(v6))
		}
	}
	return errors.Join(errs...)
}

func (e *exam) find(id string, s Severity, what, causes, remedy string) {
	e.found = append(e.found, Finding{ID: id, Instance: e.in.Name, What: what, Causes: causes, Remedy: remedy, Severity: s})
}

// in is a command in the real server's namespace.
func (e *exam) command(format string, args ...any) string {
	c := fmt.Sprintf(format, args...)
	switch s := string(e.space); {
	case s == "":
		return c
	case strings.Contains(s, "/"):
		return "nsenter --net=" + s + " " + c
	default:
		return "ip netns exec " + s + " " + c
	}
}

func (e *exam) settings(paths ...string) string {
	var list []sysctl.Setting
	for _, one := range paths {
		path, value, _ := strings.Cut(one, "=")
		s := sysctl.Setting{Path: path}
		fmt.Sscan(value, &s.Value)
		list = append(list, s)
	}
	return e.command("%s", sysctl.Command(list...))
}

// devices says whether it is worth looking on.
func (e *exam) devices() (ok bool, err error) {
	if e.iface, err = e.link(e.in.Interface); err != nil {
		return false, err
	}
	if e.iface == nil {
		e.find("interface-missing", Breaks, "there is no interface "+e.in.Interface, "nothing comes from the directors", e.command("ip link show"))
		return false, nil
	}
	for _, name := range []string{"lo", e.in.Interface} {
		l, err := e.link(name)
		if err != nil {
			return false, err
		}
		switch {
		case l.Attrs().RawFlags&unix.IFF_UP == 0:
			e.find("interface-down", Breaks, name+" is down", "nothing comes in by it, nor is an IPv6 address held on it", e.command("ip link set %s up", name))
		case name != "lo" && l.Attrs().RawFlags&unix.IFF_RUNNING == 0:
			e.find("no-carrier", Breaks, name+" has no carrier", "nothing comes in by it", "plug in its cable, or set the other end up")
		}
		if path := conf6(name, "disable_ipv6"); e.in.has(true) && e.number(path) != 0 {
			e.find("ipv6-off", Breaks, "IPv6 is off on "+name, "an IPv6 VIP cannot be held, or nothing comes for it", e.settings(path+"=0"))
		}
	}
	for _, vip := range e.in.VIPs {
		held := false
		for _, h := range e.plan.all {
			if h.prefix.Addr() == vip {
				held = true
				e.heldOn(vip, h)
			}
		}
		if !held {
			e.find("vip-missing", Breaks, fmt.Sprintf("no interface has the VIP %v", vip), "its packets are not taken: they are dropped, or sent on",
				e.command("ip address add %v dev lo%s", single(vip), map[bool]string{false: " scope host", true: " preferred_lft 0 nodad"}[vip.Is6()]))
		}
	}
	return true, nil
}

// heldOn: an interface answers for its own addresses, whatever arp_ignore says; one that does not takes in all of their prefixes.
func (e *exam) heldOn(vip netip.Addr, h holding) {
	l, err := e.link(h.device)
	if err != nil || l == nil || l.Attrs().RawFlags&unix.IFF_POINTOPOINT != 0 {
		return
	}
	if l.Attrs().RawFlags&(unix.IFF_LOOPBACK|unix.IFF_NOARP) != 0 {
		if !h.prefix.IsSingleIP() {
			e.find("vip-wide", Breaks, fmt.Sprintf("the VIP %v is on %s with the prefix %v: all of that is this host's own, or leads nowhere", vip, h.device, h.prefix.Masked()),
				"nothing of this host reaches a neighbour with such an address, be it a director, a gateway or a site",
				e.command("ip address del %v dev %s", h.prefix, h.device)+"; realserver apply")
		}
		return
	}
	e.find("vip-on-interface", Breaks, fmt.Sprintf("the VIP %v is on %s", vip, h.device),
		"the host answers for it there, and announces it: tunnels come to it past the director",
		e.command("ip address del %v dev %s", h.prefix, h.device))
}
