package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"

	"github.com/vishvananda/netlink"

	"tunneldirector/director/plane"
	"tunneldirector/director/plane/ipvs"
	"tunneldirector/director/plane/ipvs/gate"
	"tunneldirector/director/plane/ipvs/inject"
	"tunneldirector/director/plane/ipvs/route"
	"tunneldirector/director/plane/xdp"
)

// Another plane than the last run's: the new one is programmed first, then what the other has left in the kernel goes. XDP
// sees a packet before IPVS does, so that whichever of them knows a VIP first decides.

// takeOutXDP removes what plane xdp has left, if anything: programs that would take the packets before IPVS sees them.
func takeOutXDP(log *slog.Logger) (bool, error) {
	if _, err := os.Stat(xdp.DefaultPinPath); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err := xdp.Uninstall(xdp.DefaultPinPath); err != nil {
		return true, err
	}
	log.Info("the programs and maps that plane xdp had left in the kernel are taken out")
	return true, nil
}

// takeOutIPVS removes what plane ipvs has left, if anything.
func takeOutIPVS(ctx context.Context, log *slog.Logger) (bool, error) {
	if left, err := leftByIPVS(); err != nil || !left {
		return false, err
	}
	return true, cutIPVS(ctx, log)
}

// cutIPVS removes what plane ipvs has left. What failed half-way has lost the marks by which leftByIPVS knows it: call this again.
func cutIPVS(ctx context.Context, log *slog.Logger) error {
	if err := ipvs.Uninstall(ctx); err != nil {
		return err
	}
	log.Info("the services, routes and filter that plane ipvs had left in the kernel are taken out")
	return nil
}

// leftByIPVS looks for the plane's marks without waking IPVS up on a machine that does not use it.
func leftByIPVS() (bool, error) {
	if _, err := netlink.LinkByName(inject.Interface); err == nil {
		return true, nil
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("look for what plane ipvs has left: list policy rules: %w", err)
	}
	for _, r := range rules {
		if r.Protocol == route.Protocol {
			return true, nil
		}
	}
	there, err := gate.There() // before the first rule, when plane ipvs was opened and refused the table
	if err != nil {
		return false, fmt.Errorf("look for what plane ipvs has left: %w", err)
	}
	return there, nil
}

// leftovers say which planes of ours are in the kernel where the chosen one is plane shadow, which takes nothing out.
func leftovers() []string {
	var out []string
	say := func(kind string) {
		out = append(out, "what plane "+kind+" has put into the kernel goes on forwarding, by the table that its director had last; director uninstall --yes ends that")
	}
	if _, err := os.Stat(xdp.DefaultPinPath); err == nil {
		say("xdp")
	}
	if left, err := leftByIPVS(); err == nil && left {
		say("ipvs")
	}
	return out
}

// takingOver is plane xdp where plane ipvs forwards: it gets every pin before it knows a VIP or a cover, and leaves all
// packets to the other one until then.
type takingOver struct {
	*xdp.Plane
	filled bool
}

// Replace makes the plane hold exactly this, the first time the pins ahead of what they are for.
func (p *takingOver) Replace(ctx context.Context, c plane.Config, entries iter.Seq[plane.Entry]) error {
	if !p.filled {
		if err := p.Plane.Replace(ctx, plane.Config{RealServers: c.RealServers, Own: c.Own}, entries); err != nil {
			return err
		}
		p.filled = true
	}
	return p.Plane.Replace(ctx, c, entries)
}
