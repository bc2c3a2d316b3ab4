package libreswan

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Globals are settings of all connections of a pluto.
type Globals struct {
	Liveness time.Duration // whole seconds; so long without a sign of life it asks for one
	Patience time.Duration // whole seconds; so long it asks before it gives the peer up
}

// A Connection is what pluto knows of one peer.
type Connection struct {
	Name      string
	Local     netip.Addr
	ID, Peer  string     // the names of both
	Remote    netip.Addr // the zero Addr: any
	Near, Far netip.Prefix
	Calls     bool // it calls at once, and again whenever the tunnel ends; else it waits
}

// configuration is ipsec.conf. Routes are the lab's matter: no script is run when a tunnel comes up.
func configuration(g Globals, connections []Connection) string {
	var b strings.Builder
	fmt.Fprintf(&b, `config setup

conn %%default
  authby=secret
  ikev2=insist
  ike=aes_gcm128-sha2;dh31
  esp=aes_gcm128
  mobike=no
  leftupdown=%%disabled
  retransmit-interval=1000
  retransmit-timeout=%ds
  dpddelay=%d
  dpdtimeout=%d
`, g.Patience/time.Second, g.Liveness/time.Second, g.Patience/time.Second)
	for _, c := range connections {
		remote, auto, action := "%any", "add", "clear"
		if c.Remote.IsValid() {
			remote = c.Remote.String()
		}
		if c.Calls {
			auto, action = "start", "restart\n  keyingtries=%forever"
		}
		fmt.Fprintf(&b, `
conn %s
  left=%s
  leftid=@%s
  leftsubnet=%s
  right=%s
  rightid=@%s
  rightsubnet=%s
  auto=%s
  dpdaction=%s
`, c.Name, c.Local, c.ID, c.Near, remote, c.Peer, c.Far, auto, action)
	}
	return b.String()
}
