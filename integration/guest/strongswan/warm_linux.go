package strongswan

import (
	"net/netip"

	"github.com/vishvananda/netlink"
)

// WarmUp makes the kernel load what IPsec takes, in the namespace of its thread: it does so at the first SA, for seconds.
func WarmUp(vips []netip.Addr) error {
	for _, vip := range vips {
		if err := netlink.XfrmStateAdd(&netlink.XfrmState{
			Src: vip.AsSlice(), Dst: vip.AsSlice(), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL, Spi: 0x1000,
			Aead: &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: make([]byte, 20), ICVLen: 128},
		}); err != nil {
			return err
		}
	}
	return netlink.XfrmStateFlush(netlink.XFRM_PROTO_ESP)
}
