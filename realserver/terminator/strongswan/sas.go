package strongswan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"tunneldirector/director/agent"
)

// An sa is an IKE SA as charon lists it.
type sa struct {
	connection  string
	id          uint64 // unique in this run of charon
	up          bool   // established, or new keys are being made
	local       netip.Addr
	remote      netip.AddrPort
	identity    string
	established int64 // seconds ago; -1: it does not say, as while new keys are made
	suite       suite
	children    []child
}

// A child is a CHILD_SA of it.
type child struct {
	name      []byte
	spi       uint64 // by which its packets come in: random, the same while it lives
	up        bool
	transport bool
	encap     bool
	in, out   uint64 // bytes
	idle      int64  // seconds since the last packet from the site; -1: there was none
	remote    []netip.Prefix
}

// alive are the states, of IKE SAs and CHILD_SAs, in which packets flow: while new keys are made the old ones serve.
func alive(state []byte) bool {
	return string(state) == "ESTABLISHED" || string(state) == "INSTALLED" || string(state) == "REKEYING"
}

// readSA reads a message of list-sas. It makes use of the memory and the texts of one that was read before, which is of no use after that.
func readSA(m message, before sa) (sa, error) {
	s := sa{established: -1, children: before.children[:0]}
	var host netip.Addr
	var port uint64
	err := m.each(func(at sections, key, value []byte) (err error) {
		switch {
		case len(at) == 1:
			if s.connection == "" {
				s.connection = sameText(at[0], before.connection)
			}
			switch string(key) {
			case "remote-host":
				host, err = address(value)
			case "remote-port":
				port, err = strconv.ParseUint(string(value), 10, 16)
			default:
				s.suite.read(string(key), value, before.suite)
				err = s.read(string(key), value)
			}
		case len(at) == 3 && string(at[1]) == "child-sas":
			if n := len(s.children); n == 0 || string(s.children[n-1].name) != string(at[2]) {
				s.children = append(s.children, child{name: at[2], idle: -1})
			}
			err = s.children[len(s.children)-1].read(string(key), value)
		}
		if err != nil {
			return fmt.Errorf("%s of an SA: %w", key, err)
		}
		return nil
	})
	s.remote = netip.AddrPortFrom(host, uint16(port))
	return s, err
}

func (s *sa) read(key string, value []byte) (err error) {
	switch key {
	case "uniqueid":
		s.id, err = strconv.ParseUint(string(value), 10, 64)
	case "state":
		s.up = alive(value)
	case "local-host":
		s.local, err = address(value)
	case "remote-id":
		if s.identity == "" {
			s.identity = string(value)
		}
	case "remote-eap-id", "remote-xauth-id": // after remote-id, and nearer to who it is
		s.identity = string(value)
	case "established":
		s.established, err = strconv.ParseInt(string(value), 10, 64)
	}
	return err
}

func (c *child) read(key string, value []byte) (err error) {
	switch key {
	case "spi-in":
		c.spi, err = strconv.ParseUint(string(value), 16, 32)
	case "state":
		c.up = alive(value)
	case "mode":
		c.transport = string(value) == "TRANSPORT"
	case "encap":
		c.encap = string(value) == "yes"
	case "bytes-in":
		c.in, err = strconv.ParseUint(string(value), 10, 64)
	case "bytes-out":
		c.out, err = strconv.ParseUint(string(value), 10, 64)
	case "use-in":
		c.idle, err = strconv.ParseInt(string(value), 10, 64)
	case "remote-ts":
		if len(c.remote) <= agent.MaxSubnets {
			c.remote = append(c.remote, selector(string(value))...)
		}
	}
	return err
}

// address reads one; before a peer is known charon says %any.
func address(b []byte) (netip.Addr, error) {
	if len(b) > 0 && b[0] == '%' {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(string(b))
	return a.WithZone(""), err
}

// selector reads a traffic selector: a network, an address, a range, or "dynamic", with protocol and ports in brackets.
func selector(s string) []netip.Prefix {
	s, _, _ = strings.Cut(s, "[")
	if p, err := netip.ParsePrefix(s); err == nil {
		return []netip.Prefix{p.Masked()}
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
	}
	low, high, _ := strings.Cut(s, "..")
	from, err1 := netip.ParseAddr(low)
	to, err2 := netip.ParseAddr(high)
	if err1 != nil || err2 != nil || from.BitLen() != to.BitLen() || to.Less(from) {
		return nil
	}
	return networks(from, to)
}

// networks are the fewest that make up a range: at each address the largest one that begins there and ends within.
func networks(from, to netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for from.IsValid() && !to.Less(from) && len(out) <= agent.MaxSubnets {
		p := netip.PrefixFrom(from, from.BitLen())
		for p.Bits() > 0 {
			larger, err := from.Prefix(p.Bits() - 1)
			if err != nil || larger.Addr() != from || to.Less(lastOf(larger)) {
				break
			}
			p = larger
		}
		out = append(out, p)
		from = lastOf(p).Next()
	}
	return out
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// merge sorts networks, drops those inside others, and cuts them to what a report may hold. What it returns is in all's place.
func merge(all []netip.Prefix) []netip.Prefix {
	slices.SortFunc(all, netip.Prefix.Compare)
	out := all[:0]
	for _, p := range all {
		inside := func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }
		// Sorted, a network comes after those around it, and directly after those inside the one before.
		if n := len(out); (n == 0 || !inside(out[n-1])) && n < agent.MaxSubnets {
			out = append(out, p)
		}
	}
	return out
}
