package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// Service is the name of the lab's virtual service, unless Options say another.
const Service = "wireguard"

// nodeFile is what is local to the director.
func nodeFile(l *lab.Lab, o Options) string {
	d := o.On
	name := "director1"
	if len(l.Directors) > 1 {
		name = d.Title
	}
	return fmt.Sprintf(`name: %s
data_dir: %s
plane: %s
interfaces:
  - {name: %s, roles: [realservers]}
%sapi:
  socket: {path: /run/%s}
%s
`, name, o.Data, o.Plane, d.RS.Name, sides(o), socket, o.Settings)
}

// sides are the interfaces of the sides that a director stands on.
func sides(o Options) (text string) {
	if o.Side != "subnet" {
		text += fmt.Sprintf("  - {name: %s, roles: [tunnel]}\n", o.On.Sites.Name)
	}
	if o.Side != "tunnel" {
		text += fmt.Sprintf("  - {name: %s, roles: [subnet]}\n", o.On.Inner.Name)
	}
	return text
}

// records are what an operator applies. Of several directors the first is to hold the first VIP, the second the next one and the first
// gateway, and so on: each is the others' reserve.
func records(l *lab.Lab, s VirtualService) string {
	var b strings.Builder
	fmt.Fprintf(&b, `services:
  - name: %s
    vips: [%s]
    protocols: [%s]
    method: %s
    unknown: %s
%stenants:
  - name: default
    covers: [%s]
%sreal_servers:
`, s.Name, list(l.VIPs), strings.Join(s.Protocols, ", "), s.Method, s.Unknown, prefer(l), list(lab.Covers[:len(l.VIPs)]), gateways(l))
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

// prefer are the VIPs' preference lists, where there are several directors.
func prefer(l *lab.Lab) string {
	if len(l.Directors) == 1 {
		return ""
	}
	var words []string
	for i, a := range l.VIPs {
		words = append(words, fmt.Sprintf("%q: [%s]", a, strings.Join(Preferred(l, i), ", ")))
	}
	return "    prefer: {" + strings.Join(words, ", ") + "}\n"
}

// gateways are the tenant's, where there are several directors.
func gateways(l *lab.Lab) string {
	if len(l.Directors) == 1 {
		return ""
	}
	text := "    gateways:\n"
	for i, a := range l.Gateways {
		text += fmt.Sprintf("      - {address: %q, prefer: [%s]}\n", a, strings.Join(Preferred(l, i+1), ", "))
	}
	return text
}

// Preferred are the directors that VIP number i is preferably with, and gateway number i-1.
func Preferred(l *lab.Lab, i int) []string {
	var names []string
	for n := range l.Directors {
		names = append(names, l.Directors[(n+i)%len(l.Directors)].Title)
	}
	return names
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

// Repin moves a site's group to a real server. One that is shut is waited for, for up to two minutes: on a busy machine it counts as
// full for a moment, and then takes no new tunnels for half a minute at least.
func (d *Daemon) Repin(ctx context.Context, group string, to *lab.RealServer) error {
	waits, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return d.Until(waits, func() error {
		a, err := d.Client.Repin(ctx, group, api.RepinRequest{To: to.Name})
		switch {
		case err != nil && strings.Contains(err.Error(), "is shut by its agent"):
			return err
		case err == nil && (!a.Changed || a.Placement == nil || a.Placement.RealServer != to.Name):
			err = fmt.Errorf("the answer is %+v", a)
			fallthrough
		case err != nil:
			return final{fmt.Errorf("repin %s to %s: %w", group, to.Name, err)}
		}
		return nil
	})
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
