package ipvs

import (
	"fmt"
	"math/bits"
	"net/netip"
)

// crowded is how many destinations of a service are very many. The kernel has them in a list, from the newest to the oldest, and walks
// it for each entry that is made or goes elsewhere and for each destination that is put or removed (ip_vs_lookup_dest in
// ip_vs_ctl.c), and all of it, under a lock, for each UDP packet of an unknown endpoint that is to be dropped
// (ip_vs_rr_schedule). An entry that is there has its destination at hand, and so have a pin's packets. For the last of 1,024 an entry
// takes 2.4 times as long to make as where there is one only, for the last of 4,096 16 times (TestKernelDestinations of inject, emulated).
const crowded = 1024

// watchCrowds warns of the service that has most destinations, if those are very many; the log hears of it when they have become twice
// as many.
func (p *Plane) watchCrowds() {
	most, at := 0, netip.AddrPort{}
	for key, s := range p.services {
		if n := len(s.dests); n > most || n == most && key.Compare(at) < 0 {
			most, at = n, key
		}
	}
	level := bits.Len(uint(most / crowded))
	if level == 0 {
		p.warn("keep IPVS fast", nil)
		return
	}
	const why = "the kernel walks them as a list for each pin that is new or goes elsewhere, and for each UDP packet of an unknown endpoint that is to be dropped"
	const remedy = "fewer real servers a service, or plane: xdp"
	p.warn("keep IPVS fast", fmt.Errorf("virtual service UDP %v has %d destinations, and %s; from %d on that is slow; remedy: %s", at, most, why, crowded, remedy))
	if level > p.crowd {
		p.crowd = level
		p.o.Logger.Warn("a virtual service has very many destinations", "service", at, "destinations", most, "why", why, "remedy", remedy)
	}
}
