package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"

	"tunneldirector/affinity"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs/gate"
	"tunneldirector/director/plane/ipvs/route"
	"tunneldirector/director/vip"
	"tunneldirector/director/vip/sysctl"
)

const proc = "/proc/sys"

// findings are what of the kernel's settings works against a plane with so many connection entries and subnets' routes, and
// against VIPs, silent ones or not. The
// error says what could not be read.
func findings(kind string, silent bool, interfaces []plane.Interface, entries, routes int) ([]sysctl.Finding, error) {
	any := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} // of both families
	found, err := vip.Check(os.DirFS(proc), vip.Config{}, interfaces, vip.Held{VIPs: any, Silent: silent})
	if kind == config.PlaneIPVS {
		more, err2 := gate.Check(os.DirFS("/"), entries)
		most, err3 := route.Check(os.DirFS("/"), routes)
		found, err = slices.Concat(found, more, most), errors.Join(err, err2, err3)
	}
	return found, err
}

// entriesFor is how many connection entries plane ipvs needs at most for so many endpoints: one for each of a service's UDP
// ports, that of ESP and AH among them.
func entriesFor(c plane.Config, endpoints int) int {
	most := 0
	for _, s := range c.Services {
		ports := map[uint16]bool{}
		for _, m := range s.Match {
			if !affinity.HasPorts(m.Proto) {
				ports[500] = true
			}
			for n := int(m.Lo); n > 0 && n <= int(m.Hi); n++ {
				ports[uint16(n)] = true
			}
		}
		most = max(most, len(ports))
	}
	return most * endpoints
}

// mendSettings tells what works against the director, or mends what a setting can mend.
func mendSettings(kind string, silent bool, interfaces []plane.Interface, entries, routes int, mend bool, log *slog.Logger) {
	found, err := findings(kind, silent, interfaces, entries, routes)
	if err != nil {
		log.Warn("the kernel's settings could not be read", "error", err)
	}
	for _, f := range found {
		if mend && len(f.Settings) > 0 {
			if err := sysctl.Mend(proc, f); err != nil {
				log.Error("a setting of the kernel that works against the director could not be changed", "finding", f.String(), "error", err)
				continue
			}
			log.Info("a setting of the kernel was changed", "was", f.What, "because", f.Why, "by", sysctl.Command(f.Settings...))
			continue
		}
		log.Warn("the kernel's settings work against the director", "finding", f.String())
	}
}
