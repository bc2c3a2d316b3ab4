package strongswan

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/strongswan/govici/vici"
)

// An SA is a tunnel as charon has it: an IKE SA and the newest CHILD_SA of it that carries packets.
type SA struct {
	Number     string // of the IKE SA in this charon
	Peer       string // its name
	Remote     netip.AddrPort
	Child      string // number of the CHILD_SA
	SPI        string // by which packets come in
	InUDP      bool
	PacketsIn  uint64
	PacketsOut uint64
}

type ikeSA struct {
	Number   string             `vici:"uniqueid"`
	State    string             `vici:"state"`
	Peer     string             `vici:"remote-id"`
	Host     string             `vici:"remote-host"`
	Port     string             `vici:"remote-port"`
	Children map[string]childSA `vici:"child-sas"`
}

type childSA struct {
	Number string `vici:"uniqueid"`
	State  string `vici:"state"`
	SPI    string `vici:"spi-in"`
	Encap  string `vici:"encap"`
	In     string `vici:"packets-in"`
	Out    string `vici:"packets-out"`
}

// alive are the states, of IKE SAs and CHILD_SAs, in which packets flow: while new keys are made the old ones serve.
var alive = map[string]bool{"ESTABLISHED": true, "INSTALLED": true, "REKEYING": true}

// SAs are the tunnels that are up: an established IKE SA with an installed CHILD_SA.
func (d *Daemon) SAs() ([]SA, error) {
	messages, err := d.session.StreamedCommandRequest("list-sas", "list-sa", nil)
	if err != nil {
		return nil, fmt.Errorf("list SAs: %w", err)
	}
	var all []SA
	for _, m := range messages {
		if err := m.Err(); err != nil {
			return nil, fmt.Errorf("list SAs: %w", err)
		}
		for _, name := range m.Keys() {
			inner, ok := m.Get(name).(*vici.Message)
			if !ok {
				continue
			}
			var k ikeSA
			if err := vici.UnmarshalMessage(inner, &k); err != nil {
				return nil, fmt.Errorf("read SA %s: %w", name, err)
			}
			if s, ok, err := k.up(); err != nil {
				return nil, fmt.Errorf("read SA %s: %w", name, err)
			} else if ok {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// up is the SA if it is established and a CHILD_SA of it is installed.
func (k ikeSA) up() (s SA, ok bool, err error) {
	newest := -1
	if !alive[k.State] {
		return s, false, nil
	}
	for _, c := range k.Children {
		n, err := strconv.Atoi(c.Number)
		if err != nil {
			return s, false, err
		}
		if !alive[c.State] || n < newest {
			continue
		}
		newest = n
		s = SA{Number: k.Number, Peer: k.Peer, Child: c.Number, SPI: c.SPI, InUDP: c.Encap == "yes"}
		if s.Remote, err = remote(k); err != nil {
			return s, false, err
		}
		if s.PacketsIn, err = strconv.ParseUint(c.In, 10, 64); err != nil {
			return s, false, err
		}
		if s.PacketsOut, err = strconv.ParseUint(c.Out, 10, 64); err != nil {
			return s, false, err
		}
	}
	return s, newest >= 0, nil
}

func remote(k ikeSA) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(k.Host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(k.Port, 10, 16)
	return netip.AddrPortFrom(a, uint16(port)), err
}

// RekeyChild makes new keys for a tunnel's packets.
func (d *Daemon) RekeyChild(s SA) error {
	return d.command("rekey", map[string]string{"child-id": s.Child})
}

// RekeyIKE makes new keys for a tunnel's control channel.
func (d *Daemon) RekeyIKE(s SA) error {
	return d.command("rekey", map[string]string{"ike-id": s.Number})
}

// Terminate ends a tunnel: the peer is told once, and not waited for.
func (d *Daemon) Terminate(s SA) error {
	return d.command("terminate", map[string]string{"ike-id": s.Number, "force": "yes", "timeout": "-1"})
}
