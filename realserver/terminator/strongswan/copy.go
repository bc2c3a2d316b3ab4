package strongswan

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// anyESP is whatever is not weak, with perfect forward secrecy or without: the same proposal serves when the site renews keys.
var anyESP = []string{
	"aes256gcm16-aes128gcm16-chacha20poly1305-x25519-ecp256-ecp384-ecp521-modp2048-modp3072-modp4096-modpnone",
	"aes256-aes192-aes128-sha256-sha384-sha512-sha1-x25519-ecp256-ecp384-ecp521-modp2048-modp3072-modp4096-modpnone",
}

// A copied is a connection made to begin one tunnel.
type copied struct {
	name     string
	children []string
	load     message
}

// classes are what charon calls ways to authenticate, and what load-conn does.
var classes = map[string]string{"public key": "pubkey", "pre-shared key": "psk"}

// copy makes of a connection one that leads to a site: from the VIP, to where the site was seen last. What charon does not tell
// (Options) and what is not for a VIP (MOBIKE, which would offer the host's own addresses) is set; a copy ends with its tunnel
// and begins nothing by itself.
func (d *Driver) copy(ctx context.Context, c connection, identity string, t agent.Inherited) (copied, error) {
	out := copied{name: copyName(t.ID, c.name)}
	cannot := func(why string) (copied, error) {
		return copied{}, fmt.Errorf("connection %s %s: %w", c.name, why, terminator.ErrWait)
	}
	switch {
	case c.version != "IKEv2" && c.version != "IKEv1/2":
		return cannot("speaks " + c.version)
	case len(c.local) != 1 || len(c.remote) != 1 || classes[c.local[0].class] == "" || classes[c.remote[0].class] == "":
		return cannot("proves who is who other than by one certificate or secret each")
	}
	if !t.Local.IsValid() || !t.Endpoint.Addr().IsValid() || t.Local.Is4() != t.Endpoint.Addr().Is4() {
		return copied{}, fmt.Errorf("from VIP %s to endpoint %s there is no way: %w", t.Local, t.Endpoint, terminator.ErrWait)
	}
	leading := c.leading(t.Subnets)
	if len(leading) == 0 {
		return cannot("leads to none of its subnets")
	}
	ours, err := d.auth(ctx, c.local[0], c.local[0].id, true)
	if err != nil {
		return copied{}, err
	}
	theirs, err := d.auth(ctx, c.remote[0], identity, false)
	if err != nil {
		return copied{}, err
	}
	m := kept(nil, c.settings).value("version", "2").value("mobike", "no").value("keyingtries", "1").
		list("local_addrs", t.Local.String()).list("remote_addrs", t.Endpoint.Addr().String()).list("proposals", d.proposals(c.name)...)
	if t.Endpoint.Port() != 0 { // ESP in UDP: the site, or the box before it, lets in what comes from where it went to
		m = m.value("local_port", "4500").value("remote_port", fmt.Sprint(t.Endpoint.Port()))
	}
	if c.unique != "" {
		m = m.value("unique", c.unique)
	}
	var children message
	for _, k := range leading {
		out.children = append(out.children, k.name)
		children = children.section(k.name, d.child(k))
	}
	out.load = message(nil).section(out.name, m.section("local", ours).section("remote", theirs).section("children", children))
	return out, nil
}

// proposals begin with what other tunnels of the connection have: the site is sent a key of the first one's group, and asks for
// another if it wants another. That is a round trip, and if the site is less than a millisecond away charon (5.9.8) drops what
// it then answers ("ignoring request, already processing") and waits until it sends again.
func (d *Driver) proposals(connection string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.last.suites[connection]
	if !ok {
		s = d.last.suites[""]
	}
	if p := s.proposal(); p != "" {
		return append([]string{p}, d.o.Proposals...)
	}
	return d.o.Proposals
}

// child is a CHILD_SA's configuration.
func (d *Driver) child(k childConfig) message {
	settings := maps.Clone(k.settings)
	maps.Copy(settings, d.o.Child)
	return kept(nil, settings).value("dpd_action", "clear").value("close_action", "none").value("start_action", "none").
		list("local_ts", k.local...).list("remote_ts", k.remote...).list("esp_proposals", d.o.ESPProposals...)
}

// kept appends settings, in a fixed order.
func kept(m message, settings map[string]string) message {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		m = m.value(key, settings[key])
	}
	return m
}

// auth is a round of authentication. Certificates are told by subject and have to be given whole.
func (d *Driver) auth(ctx context.Context, a auth, id string, own bool) (message, error) {
	m := kept(nil, a.rest).value("auth", classes[a.class]).list("groups", a.groups...).list("cert_policy", a.policy...)
	if id != "" && id != "%any" {
		m = m.value("id", id)
	}
	var certs, cas []string
	for _, subject := range a.certs {
		found, err := d.certificates(ctx, subject)
		if err != nil {
			return nil, err
		}
		if own {
			if found = slices.DeleteFunc(found, func(c certificate) bool { return !c.key }); len(found) == 0 {
				return nil, fmt.Errorf("charon has no private key for the certificate of %q: %w", subject, terminator.ErrWait)
			}
		}
		certs = append(certs, whole(found)...)
	}
	for _, subject := range a.cacerts {
		found, err := d.certificates(ctx, subject)
		if err != nil {
			return nil, err
		}
		if cas = append(cas, whole(found)...); len(cas) == 0 {
			return nil, fmt.Errorf("charon does not tell the certificate of the authority %q: %w", subject, terminator.ErrWait)
		}
	}
	return m.list("certs", certs...).list("cacerts", cas...), nil
}

// A certificate as charon lists it.
type certificate struct {
	der string
	key bool // it has the private key, too
}

func whole(all []certificate) []string {
	var out []string
	for _, c := range all {
		out = append(out, c.der)
	}
	return out
}

// certificates are those of a subject.
func (d *Driver) certificates(ctx context.Context, subject string) ([]certificate, error) {
	var all []certificate
	return all, d.call(ctx, "list-certs", message(nil).value("type", "X509").value("subject", subject), "list-cert", func(m message) error {
		var c certificate
		err := m.each(func(_ sections, key, value []byte) error {
			switch string(key) {
			case "data":
				c.der = string(value)
			case "has_privkey":
				c.key = string(value) == "yes"
			}
			return nil
		})
		if err == nil && c.der != "" {
			all = append(all, c)
		}
		return err
	})
}
