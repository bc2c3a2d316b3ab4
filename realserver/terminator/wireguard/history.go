package wireguard

import (
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// history is what is known of peers whose last handshake is young enough.
type history map[wgtypes.Key]life

// A life is an unbroken series of handshakes.
type life struct {
	since     time.Time // the first
	last      time.Time // when bytes were seen to grow, or the last handshake
	handshake time.Time
	rx        uint64
}

// look takes note of what the device says now, and forgets peers whose keys have expired.
//
// A handshake starts a new life if the keys of the one before had expired, or if bytes count from zero again: then the peer
// was made anew, or the device.
func (h history) look(now time.Time, peers []peer) {
	here := make(map[wgtypes.Key]bool, len(peers))
	for i := range peers {
		p := &peers[i]
		if p.handshake.IsZero() || now.Sub(p.handshake) >= lifetime {
			continue
		}
		here[p.key] = true
		l, known := h[p.key]
		switch {
		case !known || p.handshake.Sub(l.handshake) >= lifetime || p.rx < l.rx:
			l = life{since: p.handshake, last: p.handshake}
		case p.rx > l.rx:
			l.last = now
		}
		if p.handshake.After(l.last) {
			l.last = p.handshake
		}
		l.handshake, l.rx = p.handshake, p.rx
		h[p.key] = l
	}
	for key := range h {
		if !here[key] {
			delete(h, key)
		}
	}
}
