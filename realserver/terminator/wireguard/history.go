package wireguard

import (
	"net/netip"
	"slices"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/director/agent"
)

// history is what is known of peers whose last handshake is young enough. Peers are looked at between begin and end.
type history struct {
	lives map[wgtypes.Key]*life
	round uint64
}

// A life is an unbroken series of handshakes.
type life struct {
	since     time.Time // the first
	last      time.Time // when bytes were seen to grow, or the last handshake
	handshake time.Time
	rx        uint64
	name      string
	subnets   []netip.Prefix // not changed but replaced
	round     uint64         // that it was seen in last
}

func (h *history) begin() { h.round++ }

// look takes note of what the device says of a peer now; nil: its keys have expired.
//
// A handshake starts a new life if the keys of the one before had expired, or if bytes count from zero again: then the peer
// was made anew, or the device.
func (h *history) look(now time.Time, p *peer) *life {
	if p.handshake.IsZero() || now.Sub(p.handshake) >= lifetime {
		return nil
	}
	l := h.lives[p.key]
	switch {
	case l == nil:
		l = &life{since: p.handshake, last: p.handshake, name: p.key.String()}
		h.lives[p.key] = l
	case p.handshake.Sub(l.handshake) >= lifetime || p.rx < l.rx:
		l.since, l.last = p.handshake, p.handshake
	case p.rx > l.rx:
		l.last = now
	}
	if p.handshake.After(l.last) {
		l.last = p.handshake
	}
	if subnets := p.allowed[:min(len(p.allowed), agent.MaxSubnets)]; !slices.Equal(l.subnets, subnets) {
		l.subnets = slices.Clone(subnets)
	}
	l.handshake, l.rx, l.round = p.handshake, p.rx, h.round
	return l
}

// end forgets who was not seen since begin.
func (h *history) end() {
	for key, l := range h.lives {
		if l.round != h.round {
			delete(h.lives, key)
		}
	}
}
