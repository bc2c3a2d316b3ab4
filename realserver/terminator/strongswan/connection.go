package strongswan

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// A connection is what charon tells of one that is loaded (list-conns): not its proposals, and no secrets.
type connection struct {
	name          string
	version       string
	unique        string
	settings      map[string]string // those that load-conn takes as they are told
	local, remote []auth
	children      []childConfig
}

type auth struct {
	section        string
	class, id      string
	certs, cacerts []string // subjects
	rest           map[string]string
	groups, policy []string
}

type childConfig struct {
	name          string
	settings      map[string]string
	local, remote []string // traffic selectors
}

// keptSettings are told in the words that load-conn takes, of connections, authentication rounds and CHILD_SAs.
var (
	keptSettings      = []string{"dpd_delay", "dpd_timeout", "rekey_time", "reauth_time", "ppk_id", "ppk_required"}
	keptAuthSettings  = []string{"ca_id", "revocation"}
	keptChildSettings = []string{"rekey_time", "rekey_bytes", "rekey_packets", "interface", "priority", "label"}
)

// readConnection reads a message of list-conns.
func readConnection(m message) (connection, error) {
	c := connection{settings: map[string]string{}}
	err := m.each(func(at sections, key, value []byte) error {
		if len(at) > 0 {
			c.name = string(at[0])
		}
		switch {
		case len(at) == 1:
			c.read(string(key), string(value))
		case len(at) == 2 && strings.HasPrefix(string(at[1]), "local-"):
			readAuth(&c.local, string(at[1]), string(key), string(value))
		case len(at) == 2 && strings.HasPrefix(string(at[1]), "remote-"):
			readAuth(&c.remote, string(at[1]), string(key), string(value))
		case len(at) == 3 && string(at[1]) == "children":
			c.readChild(string(at[2]), string(key), string(value))
		}
		return nil
	})
	return c, err
}

func (c *connection) read(key, value string) {
	switch {
	case key == "version":
		c.version = value
	case key == "unique":
		c.unique = strings.ToLower(strings.TrimPrefix(value, "UNIQUE_"))
	case slices.Contains(keptSettings, key):
		c.settings[key] = value
	}
}

func readAuth(all *[]auth, section, key, value string) {
	if n := len(*all); n == 0 || (*all)[n-1].section != section {
		*all = append(*all, auth{section: section, rest: map[string]string{}})
	}
	a := &(*all)[len(*all)-1]
	switch {
	case key == "class":
		a.class = value
	case key == "id":
		a.id = value
	case key == "certs":
		a.certs = append(a.certs, value)
	case key == "cacerts":
		a.cacerts = append(a.cacerts, value)
	case key == "groups":
		a.groups = append(a.groups, value)
	case key == "cert_policy":
		a.policy = append(a.policy, value)
	case slices.Contains(keptAuthSettings, key):
		a.rest[key] = value
	}
}

func (c *connection) readChild(name, key, value string) {
	if n := len(c.children); n == 0 || c.children[n-1].name != name {
		c.children = append(c.children, childConfig{name: name, settings: map[string]string{}})
	}
	k := &c.children[len(c.children)-1]
	switch {
	case key == "mode":
		k.settings["mode"] = strings.ToLower(value)
	case key == "local-ts":
		k.local = append(k.local, value)
	case key == "remote-ts":
		k.remote = append(k.remote, value)
	case slices.Contains(keptChildSettings, key):
		k.settings[key] = value
	}
}

// connectionOf finds the connection of a tunnel and the identity of its site: by the peer's name, else, where it was never told,
// the only connection with a CHILD_SA that leads to one of the tunnel's subnets.
func (d *Driver) connectionOf(ctx context.Context, t agent.Inherited) (connection, string, error) {
	name := terminator.SharedName(t.Peer)
	for i := range name {
		if name[i] != ' ' {
			continue
		}
		found, err := d.connections(ctx, name[:i])
		if err != nil {
			return connection{}, "", err
		}
		if len(found) > 0 {
			return found[0], name[i+1:], nil
		}
	}
	if t.Peer != "" {
		return connection{}, "", fmt.Errorf("no connection here is that of %q: %w", t.Peer, terminator.ErrWait)
	}
	all, err := d.connections(ctx, "")
	if err != nil {
		return connection{}, "", err
	}
	all = slices.DeleteFunc(all, func(c connection) bool { return len(c.leading(t.Subnets)) == 0 })
	if len(all) != 1 {
		return connection{}, "", fmt.Errorf("%d connections here lead to its subnets, and nobody told which is its: %w", len(all), terminator.ErrWait)
	}
	return all[0], "", nil
}

// connections lists those that are the real server's, of one name or ("") all.
func (d *Driver) connections(ctx context.Context, name string) ([]connection, error) {
	var all []connection
	var m message
	if name != "" {
		m = m.value("ike", name)
	}
	return all, d.call(ctx, "list-conns", m, "list-conn", func(m message) error {
		c, err := readConnection(m)
		if err == nil && original(c.name) == c.name && terminator.Matches(d.o.Connections, c.name) {
			all = append(all, c)
		}
		return err
	})
}

// leading are copies of the CHILD_SAs that lead to subnets, narrowed to these. With no subnets it is all of them as they are.
func (c *connection) leading(subnets []netip.Prefix) []childConfig {
	var out []childConfig
	for _, k := range c.children {
		if len(subnets) > 0 {
			if k.remote = narrow(k.remote, subnets); len(k.remote) == 0 {
				continue
			}
		}
		out = append(out, k)
	}
	return out
}

// narrow cuts traffic selectors to subnets. Those for a protocol or port only, and those that overlap without holding the
// subnet, stay as they are; a dynamic one is the site's own address, which a subnet is not.
func narrow(selectors []string, subnets []netip.Prefix) []string {
	var out []string
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, s := range selectors {
		for _, p := range selector(s) {
			for _, q := range subnets {
				switch {
				case !p.Overlaps(q):
				case strings.Contains(s, "[") || p.Bits() >= q.Bits():
					add(s)
				default:
					add(q.Masked().String())
				}
			}
		}
	}
	return out
}
