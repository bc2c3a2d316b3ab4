package main

import (
	"fmt"
	"slices"
	"strings"

	loop "tunneldirector/director"
	"tunneldirector/director/config"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs"
)

// A planeChoice is a plane, who chose it, and why.
type planeChoice struct{ kind, by, why string }

// Who chooses.
const (
	byConfiguration = "configuration"
	byAuto          = "auto"
)

func (c planeChoice) String() string {
	if c.by == byAuto {
		return c.kind + " (auto: " + c.why + ")"
	}
	return c.kind
}

// choose finds the plane of a configuration for records that ask for so much; probe tells whether the kernel can do ipvs.
func choose(cfg config.Config, asked plane.Config, probe func() error) planeChoice {
	if cfg.Plane != config.PlaneAuto {
		return planeChoice{cfg.Plane, byConfiguration, "the node's file says plane: " + cfg.Plane}
	}
	if i := slices.IndexFunc(cfg.Interfaces, func(i config.Interface) bool { return len(i.VLANs) > 0 }); i >= 0 {
		return notIPVS("interface " + cfg.Interfaces[i].Name + " tells tenants by 802.1Q tag, which IPVS knows nothing of")
	}
	if err := probe(); err != nil {
		return notIPVS(strings.TrimPrefix(err.Error(), plane.ErrUnsupported.Error()+": "))
	}
	switch list := ipvs.Check(asked); len(list) {
	case 0:
		return planeChoice{config.PlaneIPVS, byAuto, "the kernel has IPVS, and it can do all that the records ask for"}
	case 1:
		return notIPVS(loop.Unable(list).Error())
	default:
		return notIPVS(fmt.Sprintf("%v, and %d more that IPVS cannot do", loop.Unable(list[:1]), len(list)-1))
	}
}

// likely is the choice if the records ask for nothing that ipvs cannot do.
func likely(cfg config.Config) planeChoice { return choose(cfg, plane.Config{}, ipvs.Probe) }

func notIPVS(why string) planeChoice { return planeChoice{config.PlaneXDP, byAuto, why} }
