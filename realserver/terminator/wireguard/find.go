package wireguard

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/director/agent"
)

// find returns the peer of an inherited tunnel. A key that is not configured is another site's, even if subnets fit.
func find(peers []peer, in agent.Inherited) (peer, error) {
	if key, err := wgtypes.ParseKey(in.Peer); err == nil {
		for _, p := range peers {
			if p.key == key {
				return p, nil
			}
		}
		return peer{}, fmt.Errorf("peer %s is not configured", key)
	}
	if len(in.Subnets) == 0 {
		return peer{}, errors.New("neither a peer's key nor a subnet is known")
	}
	found := -1
	for _, subnet := range in.Subnets {
		i := owner(peers, subnet)
		switch {
		case i < 0:
			return peer{}, fmt.Errorf("no peer is configured for %s", subnet)
		case found >= 0 && found != i:
			return peer{}, fmt.Errorf("peer %s is configured for %s, peer %s for %s", peers[found].key, in.Subnets[0], peers[i].key, subnet)
		}
		found = i
	}
	return peers[found], nil
}

// owner is the peer that a subnet's packets go to: the one with the longest allowed prefix around it; -1 if there is none.
func owner(peers []peer, subnet netip.Prefix) int {
	found, bits := -1, -1
	for i := range peers {
		for _, a := range peers[i].allowed {
			if a.Bits() > bits && a.Bits() <= subnet.Bits() && a.Contains(subnet.Addr()) {
				found, bits = i, a.Bits()
			}
		}
	}
	return found
}
