package guest

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// IPsec with keys set by hand: no IKE packet is ever sent. Every real server holds the same security associations, without
// replay protection, so that a tunnel may go on at another one at once.
var (
	esp = kind{"esp", []string{"esp"}, func(e end) error { return e.secure(netlink.XFRM_PROTO_ESP) }}
	ah  = kind{"ah", []string{"ah"}, func(e end) error { return e.secure(netlink.XFRM_PROTO_AH) }}
)

// spi is that of the tunnel's packets to a site, or to the VIP.
func (e end) spi(toSite bool) int {
	if toSite {
		return 0x2000 + e.number
	}
	return 0x1000 + e.number
}

// secure adds the two associations of a tunnel in tunnel mode, and the policies for both ways.
func (e end) secure(proto netlink.Proto) error {
	out := e.association(proto, e.local, e.remote, e.spi(e.server))
	in := e.association(proto, e.remote, e.local, e.spi(!e.server))
	for _, s := range []*netlink.XfrmState{out, in} {
		if err := netlink.XfrmStateAdd(s); err != nil {
			return fmt.Errorf("add the association from %s to %s: %w", s.Src, s.Dst, err)
		}
	}
	for _, p := range []struct {
		dir      netlink.Dir
		src, dst netip.Prefix
		by       *netlink.XfrmState
	}{
		{netlink.XFRM_DIR_OUT, e.near, e.far, out}, {netlink.XFRM_DIR_IN, e.far, e.near, in}, {netlink.XFRM_DIR_FWD, e.far, e.near, in},
	} {
		err := netlink.XfrmPolicyAdd(&netlink.XfrmPolicy{Src: ipNet(p.src), Dst: ipNet(p.dst), Dir: p.dir, Tmpls: []netlink.XfrmPolicyTmpl{{
			Src: p.by.Src, Dst: p.by.Dst, Proto: proto, Mode: netlink.XFRM_MODE_TUNNEL, Reqid: p.by.Reqid,
		}}})
		if err != nil {
			return fmt.Errorf("add the policy %s from %s to %s: %w", p.dir, p.src, p.dst, err)
		}
	}
	return nil
}

func (e end) association(proto netlink.Proto, src, dst netip.Addr, spi int) *netlink.XfrmState {
	s := &netlink.XfrmState{
		Src: src.AsSlice(), Dst: dst.AsSlice(), Proto: proto, Mode: netlink.XFRM_MODE_TUNNEL, Spi: spi, Reqid: e.number,
	}
	if proto == netlink.XFRM_PROTO_AH {
		s.Auth = &netlink.XfrmStateAlgo{Name: "hmac(sha256)", Key: bytes.Repeat([]byte{byte(spi)}, 32), TruncateLen: 128}
	} else {
		s.Aead = &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: bytes.Repeat([]byte{byte(spi)}, 20), ICVLen: 128}
	}
	return s
}
