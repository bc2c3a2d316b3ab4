package terminator

import (
	"fmt"
	"net/netip"
	"strings"

	"tunneldirector/director/agent"
)

// between stands between the name that several sites share and where one of them is.
const between = " at "

// MaxName is how many bytes a name may have that NameAt does not cut.
const MaxName = agent.MaxText - len(between+"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")

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

// SameName tells whether two names may be one site's, either of them with where it is.
func SameName(a, b string) bool {
	x, y := SharedName(a), SharedName(b)
	return x == y || a == y || x == b
}

// Here is the name of an order's peer among those that are here, which are without where each is. A name may look as if NameAt had
// made it.
func Here(peer string, is func(name string) bool) string {
	if is(peer) {
		return peer
	}
	return SharedName(peer)
}

// IsAt tells whether an order's endpoint is where a session comes from. One without a port means all of an address, and a session
// without one, which has an address of its own, is at all of its ports.
func IsAt(order, remote netip.AddrPort) bool {
	return order.Addr() == remote.Addr() && (order.Port() == 0 || remote.Port() == 0 || order.Port() == remote.Port())
}

// Elsewhere is an error if a name's sessions, none of which is where an order says, come from anywhere: the site has moved since, or
// they are other sites'.
func Elsewhere(name string, order netip.AddrPort, remotes []netip.AddrPort) error {
	if len(remotes) == 0 {
		return nil
	}
	return fmt.Errorf("%s is established, but from %v and not from %v", name, remotes[0], order)
}
