package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"tunneldirector/director/agent"
	"tunneldirector/realserver"
	"tunneldirector/realserver/host"
	"tunneldirector/realserver/space"
)

// hostOf is what the host of a configuration is to be like.
func hostOf(cfg Config) (*host.Host, error) {
	c := host.Config{StateFile: filepath.Join(cfg.StateDir, "host.json")}
	for _, s := range cfg.RealServers {
		c.Instances = append(c.Instances, host.Instance{Name: s.Name, Space: space.Space(s.Namespace), VIPs: s.VIPs, Method: s.Method, Interface: s.Interface,
			Own: s.Own, Holder: s.Holder, Via: s.Via, Mark: s.Mark, ShareL2: s.ShareL2, MTU: s.MTU, MSS: s.MSS, Sites: s.Sites, ProbePort: cfg.ProbePort, Protocols: s.Protocols})
	}
	return host.New(c)
}

// instancesOf are the real servers with their terminators; nothing is touched. Meters are the caller's.
func instancesOf(cfg Config) (out []realserver.Instance, err error) {
	var errs []error
	for i := range cfg.RealServers {
		s := &cfg.RealServers[i]
		t, err := s.Terminator.Settings.make(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("real_servers[%d].terminator: %w", i, err))
			continue
		}
		out = append(out, realserver.Instance{Terminator: t,
			Server: agent.Server{Name: s.Name, Terminator: s.Terminator.Kind, ProbePort: cfg.ProbePort, VIPs: s.VIPs, Method: s.Method}})
	}
	return out, errors.Join(errs...)
}

// A place is where probes of some real servers are answered: they share a namespace and the way that packets come.
type place struct {
	namespace, method string
	vips              []netip.Addr
	devices           []string // that decapsulate
	realServers       []string
}

func placesOf(cfg Config) (out []*place) {
	for i := range cfg.RealServers {
		s := &cfg.RealServers[i]
		at := slices.IndexFunc(out, func(p *place) bool { return p.namespace == s.Namespace && p.method == s.Method })
		if at < 0 {
			at = len(out)
			out = append(out, &place{namespace: s.Namespace, method: s.Method})
		}
		p := out[at]
		for _, v := range s.VIPs {
			if !slices.Contains(p.vips, v) {
				p.vips = append(p.vips, v)
			}
		}
		p.realServers = append(p.realServers, s.Name)
		switch {
		case s.Method != host.Tunnel:
		case len(s.Devices) > 0:
			p.devices = append(p.devices, s.Devices...)
		default:
			p.devices = append(p.devices, host.Devices(s.Name)...)
		}
	}
	return out
}
