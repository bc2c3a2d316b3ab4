package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// inject sends a datagram for the VIP in IPIP from the host to its own address, as a director does but for the wire, and
// finds out whether it comes out.
func (e *exam) inject(v6 bool, device string) error {
	own, err := e.own(v6)
	if err != nil {
		return err
	}
	vip, network := of(e.in.VIPs, v6), "ip4:4"
	if v6 {
		network = "ip6:41"
	}
	at, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 0)))
	if err != nil {
		return fmt.Errorf("listen at the VIP: %w", err)
	}
	defer at.Close()
	token := []byte(rand.Text())
	b, err := datagram(e.site(v6), vip, 9, at.LocalAddr().(*net.UDPAddr).AddrPort().Port(), token)
	if err != nil {
		return err
	}
	c, err := net.DialIP(network, &net.IPAddr{IP: own.AsSlice()}, &net.IPAddr{IP: own.AsSlice()})
	if err != nil {
		return fmt.Errorf("send in IPIP to %v: %w", own, err)
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		return fmt.Errorf("send in IPIP to %v: %w", own, err)
	}
	if err := at.SetReadDeadline(time.Now().Add(hearing)); err != nil {
		return err
	}
	in := make([]byte, 1500)
	for {
		n, _, err := at.ReadFromUDPAddrPort(in)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			e.find("decap-dead", Breaks, fmt.Sprintf("a datagram for the VIP %v in IPIP to %v did not come out at %s", vip, own, device),
				"what directors send in IPIP is dropped", e.command("nft list ruleset")+"; "+e.command("tcpdump -ni %s", device))
			return nil
		case err != nil:
			return fmt.Errorf("listen at the VIP: %w", err)
		case string(in[:n]) == string(token):
			return nil
		}
	}
}
