package terminator

import (
	"net/netip"
	"strings"

	"tunneldirector/director/agent"
)

// between stands between the name that several sites share and where one of them is.
const between = " at "

// NameAt is what a site is called that has its name in common with others: many behind NATs are known by the same private address.
func NameAt(name string, at netip.AddrPort) string {
	suffix := between + at.String()
	if at.Port() == 0 {
		suffix = between + at.Addr().String()
	}
	if most := agent.MaxText - len(suffix); len(name) > most {
		name = strings.ToValidUTF8(name[:most], "")
	}
	return name + suffix
}

// SharedName is the name in what NameAt made, or all of any other.
func SharedName(peer string) string {
	i := strings.LastIndex(peer, between)
	if i < 0 {
		return peer
	}
	at := peer[i+len(between):]
	_, bad := netip.ParseAddrPort(at)
	if _, worse := netip.ParseAddr(at); bad != nil && worse != nil {
		return peer
	}
	return peer[:i]
}

// IsAt tells whether an order's endpoint is where a session comes from. An order without a port means all of an address.
func IsAt(order, remote netip.AddrPort) bool {
	return order.Addr() == remote.Addr() && (order.Port() == 0 || order.Port() == remote.Port())
}
