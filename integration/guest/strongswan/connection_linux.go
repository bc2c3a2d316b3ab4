package strongswan

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/strongswan/govici/vici"
)

// An Identity is who a peer is: its name and, in PEM, the certificate and key that prove it, and who vouches for others; or a secret.
type Identity struct {
	Name                       string
	Certificate, Key, Vouching []byte
	Secret                     string // pre-shared with everybody; then there are no certificates
}

// NoSecret stands for one that peers are asked for and charon was not told.
const NoSecret = "none"

// A Connection is what charon knows of one peer, or of all that call.
type Connection struct {
	Name      string
	Local     netip.Addr
	Remote    netip.Addr // the zero Addr: any
	Peer      string     // the name that the peer must have; "": any
	Near, Far []netip.Prefix
	Fragments bool          // IKE messages in parts of their own (RFC 7383); else IP has to cut them
	Liveness  time.Duration // whole seconds; so long without a sign of life it asks for one; 0: never
	ESP       []string      // proposals for packets; none: AES-128-GCM
	Calls     bool          // it calls at once, and again whenever the tunnel ends; else it waits
}

// Child is the name of each connection's only CHILD_SA.
const Child = "net"

// wire is a connection in VICI's words (strongSwan, src/libcharon/plugins/vici/README.md, load-conn).
type wire struct {
	Version       string           `vici:"version"`
	LocalAddrs    []string         `vici:"local_addrs"`
	RemoteAddrs   []string         `vici:"remote_addrs"`
	Proposals     []string         `vici:"proposals"`
	Mobike        string           `vici:"mobike"`
	Fragmentation string           `vici:"fragmentation"`
	Unique        string           `vici:"unique"`
	Tries         string           `vici:"keyingtries,omitempty"`
	DPD           string           `vici:"dpd_delay,omitempty"`
	Local         wireAuth         `vici:"local"`
	Remote        wireAuth         `vici:"remote"`
	Children      map[string]child `vici:"children"`
}

type wireAuth struct {
	Auth  string   `vici:"auth"`
	ID    string   `vici:"id,omitempty"`
	Certs []string `vici:"certs,omitempty"`
	CAs   []string `vici:"cacerts,omitempty"`
}

type child struct {
	LocalTS     []string `vici:"local_ts"`
	RemoteTS    []string `vici:"remote_ts"`
	Proposals   []string `vici:"esp_proposals"`
	StartAction string   `vici:"start_action,omitempty"`
	DPDAction   string   `vici:"dpd_action"`
	CloseAction string   `vici:"close_action,omitempty"`
}

func (c Connection) wire(i Identity) wire {
	w := wire{
		Version: "2", LocalAddrs: []string{c.Local.String()}, RemoteAddrs: []string{"%any"},
		Proposals: []string{"aes128gcm16-prfsha256-ecp256"}, Mobike: "no", Fragmentation: "no", Unique: "replace",
		Local:  wireAuth{Auth: "pubkey", ID: i.Name, Certs: []string{string(i.Certificate)}},
		Remote: wireAuth{Auth: "pubkey", ID: c.Peer, CAs: []string{string(i.Vouching)}},
	}
	if i.Secret != "" {
		w.Local, w.Remote = wireAuth{Auth: "psk", ID: i.Name}, wireAuth{Auth: "psk", ID: c.Peer}
	}
	if c.Remote.IsValid() {
		w.RemoteAddrs = []string{c.Remote.String()}
	}
	if c.Fragments {
		w.Fragmentation = "yes"
	}
	if c.Liveness > 0 {
		w.DPD = fmt.Sprintf("%ds", c.Liveness/time.Second)
	}
	k := child{LocalTS: words(c.Near), RemoteTS: words(c.Far), Proposals: []string{"aes128gcm16"}, DPDAction: "clear"}
	if len(c.ESP) > 0 {
		k.Proposals = c.ESP
	}
	if c.Calls {
		w.Tries = "0"
		k.StartAction, k.DPDAction, k.CloseAction = "start", "restart", "start"
	}
	w.Children = map[string]child{Child: k}
	return w
}

func words(ps []netip.Prefix) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// Load makes a connection known, and who this end is. One that Calls is begun at once.
func (d *Daemon) Load(c Connection, i Identity) error {
	type step struct {
		command string
		what    any
	}
	steps := []step{
		{"load-cert", map[string]string{"type": "x509", "flag": "ca", "data": string(i.Vouching)}},
		{"load-key", map[string]string{"type": "any", "data": string(i.Key)}},
	}
	if i.Secret != "" {
		steps = []step{{"load-shared", map[string]string{"id": "all", "type": "IKE", "data": i.Secret}}}
	}
	if i.Secret == NoSecret {
		steps = nil
	}
	for _, step := range append(steps, step{"load-conn", map[string]wire{c.Name: c.wire(i)}}) {
		if err := d.command(step.command, step.what); err != nil {
			return fmt.Errorf("load connection %s: %w", c.Name, err)
		}
	}
	return nil
}

// command sends a command whose answer is only whether it succeeded.
func (d *Daemon) command(name string, what any) error {
	m, err := vici.MarshalMessage(what)
	if err == nil {
		_, err = d.session.CommandRequest(name, m)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
