package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// Service is the name of the lab's virtual service, unless Options say another.
const Service = "wireguard"

// nodeFile is what is local to the director.
func nodeFile(l *lab.Lab, o Options) string {
	d := l.Director
	return fmt.Sprintf(`name: director1
data_dir: %s
plane: %s
interfaces:
  - {name: %s, roles: [tunnel]}
  - {name: %s, roles: [realservers]}
  - {name: %s, roles: [subnet]}
api:
  socket: {path: /run/%s}
%s
`, o.Data, o.Plane, d.Sites.Name, d.RS.Name, d.Inner.Name, socket, o.Settings)
}

// records are what an operator applies.
func records(l *lab.Lab, s VirtualService) string {
	var b strings.Builder
	fmt.Fprintf(&b, `services:
  - name: %s
    vips: [%s]
    protocols: [%s]
    method: %s
    unknown: %s
tenants:
  - name: default
    covers: [%s]
real_servers:
`, s.Name, list(l.VIPs), strings.Join(s.Protocols, ", "), s.Method, s.Unknown, list(lab.Covers[:len(l.VIPs)]))
	for _, r := range l.RealServers {
		fmt.Fprintf(&b, `  - name: %s
    host: host%d
    addresses: [%s]
    services: [%s]
    check: %s
`, r.Name, r.Index, list(r.DR.Addrs), s.Name, s.Check)
	}
	return b.String()
}

func list[T interface{ String() string }](values []T) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = `"` + v.String() + `"`
	}
	return strings.Join(words, ", ")
}

// Tunnel is what a network management system pushes for a site. Those that share an address are a group.
func Tunnel(s *lab.Site) api.Tunnel {
	t := api.Tunnel{ID: s.Name, Service: Service, Endpoints: []string{s.Endpoint.String()}, State: "coming"}
	if s.Local != s.Endpoint {
		t.Group = "behind-" + s.Endpoint.String()
	}
	for _, p := range s.Subnets {
		t.Subnets = append(t.Subnets, p.String())
	}
	return t
}

// Push makes sites' tunnels known, one by one, before they come up.
func (d *Daemon) Push(ctx context.Context, sites ...*lab.Site) error {
	for _, s := range sites {
		t := Tunnel(s)
		t.Service = d.opts.Service.Name
		if _, err := d.Client.PutTunnel(ctx, t); err != nil {
			return fmt.Errorf("push %s: %w", s.Name, err)
		}
	}
	return nil
}

// Placed asks the director where a site's tunnel is: its real server and its backup (nil: none).
func (d *Daemon) Placed(ctx context.Context, s *lab.Site) (rs, backup *lab.RealServer, err error) {
	t, err := d.Client.Tunnel(ctx, s.Name)
	if err != nil {
		return nil, nil, err
	}
	if t.Placement == nil || t.Placement.RealServer == "" {
		return nil, nil, fmt.Errorf("%s has no real server: %+v", s.Name, t.Placement)
	}
	return d.realServer(t.Placement.RealServer), d.realServer(t.Placement.Backup), nil
}

func (d *Daemon) realServer(name string) *lab.RealServer {
	for _, r := range d.lab.RealServers {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// Filler is tunnel number i, from 0, of at most 131,072 that no site of the lab has: they fill the tables.
func Filler(i int) api.Tunnel {
	endpoint := netip.AddrFrom4([4]byte{198, byte(18 + i>>16&1), byte(i >> 8), byte(i)}) // 198.18.0.0/15, RFC 2544
	subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(72 + i>>12), byte(i >> 4), byte(i << 4)}), 28)
	return api.Tunnel{
		ID: fmt.Sprintf("filler-%06d", i), Service: Service, Endpoints: []string{endpoint.String()},
		Subnets: []string{subnet.String()}, State: "down",
	}
}
