package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// inject sends a datagram for the VIP in IPIP to the host's own address, as a director does but for the wire, and finds out
// whether it comes out.
func (e *exam) inject(v6 bool, device string) error {
	own, err := e.own(v6)
	if err != nil {
		return err
	}
	vip := of(e.in.VIPs, v6)
	at, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 0)))
	if err != nil {
		return fmt.Errorf("listen at the VIP: %w", err)
	}
	defer at.Close()
	token := []byte(rand.Text())
	b, err := datagram(e.in.site(v6), vip, 9, at.LocalAddr().(*net.UDPAddr).AddrPort().Port(), token)
	if err == nil {
		b, err = inIPIP(e.in.site(v6), own, b) // the kernel takes no IPv6 in IPv6 from an address of its own
	}
	if err == nil {
		err = sendRaw(own, b)
	}
	if err != nil {
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

// sendRaw sends a packet that has its IP header.
func sendRaw(to netip.Addr, packet []byte) error {
	fd, err := unix.Socket(family(to.Is6()), unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: to.As16()}
	if to.Is4() {
		sa = &unix.SockaddrInet4{Addr: to.As4()}
	}
	return os.NewSyscallError("sendto", unix.Sendto(fd, packet, 0, sa))
}
