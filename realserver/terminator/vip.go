package terminator

import "net/netip"

// OnlyVIP is the only VIP of a site's family, for software that does not tell which one the site dials; the zero Addr if there is
// none, or more than one.
func OnlyVIP(vips []netip.Addr, site netip.Addr) netip.Addr {
	var only netip.Addr
	for _, v := range vips {
		switch {
		case v.Is4() != site.Is4():
		case only.IsValid():
			return netip.Addr{}
		default:
			only = v
		}
	}
	return only
}
