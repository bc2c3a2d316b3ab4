package conntab

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// An Entry is one line of the table.
type Entry struct {
	Protocol uint8 // 0: of a firewall mark's template
	Client   netip.AddrPort
	VIP      netip.AddrPort
	Dest     netip.AddrPort
	State    string // as IPVS calls it; of a template NONE or ASSURED
	Synced   bool   // it came by the synchronisation protocol, and was not made by a packet
	Expires  time.Duration
}

// Template tells whether e is no connection but what IPVS remembers of a client of a persistent service.
// TCP knows a state NONE, too, but its clients have ports.
func (e Entry) Template() bool {
	return (e.State == "NONE" || e.State == "ASSURED") && e.Client.Port() == 0
}

// parseLine reads a line as ip_vs_conn_sync_seq_show writes it:
//
//	Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires
//	UDP CB007105 0000 C6336401 01F4 0A000002 0007 UDP         SYNC      3599
func parseLine(line []byte) (e Entry, err error) {
	f := bytes.Fields(line)
	if len(f) != 10 {
		return e, fmt.Errorf("read connection %q: %d fields, want 10", line, len(f))
	}
	if e.Protocol, err = parseProtocol(string(f[0])); err != nil {
		return e, fmt.Errorf("read connection %q: %w", line, err)
	}
	for i, to := range [...]*netip.AddrPort{&e.Client, &e.VIP, &e.Dest} {
		if *to, err = parseAddrPort(f[1+2*i], f[2+2*i]); err != nil {
			return e, fmt.Errorf("read connection %q: %w", line, err)
		}
	}
	e.State = string(f[7])
	switch string(f[8]) {
	case "SYNC":
		e.Synced = true
	case "LOCAL":
	default:
		return e, fmt.Errorf("read connection %q: origin %q is not known", line, f[8])
	}
	seconds, err := strconv.ParseUint(string(f[9]), 10, 64)
	if err != nil {
		return e, fmt.Errorf("read connection %q: %w", line, err)
	}
	if seconds <= maxSeconds {
		e.Expires = time.Duration(seconds) * time.Second
	}
	return e, nil
}

// maxSeconds is more than any timer's. The kernel subtracts without a sign, so that an entry whose time has just come
// has billions left.
const maxSeconds = 1 << 31

// parseProtocol knows the words of ip_vs_proto_name.
func parseProtocol(word string) (uint8, error) {
	for _, p := range [...]struct {
		word   string
		number uint8
	}{{"UDP", 17}, {"TCP", 6}, {"SCTP", 132}, {"IP", 0}, {"ICMP", 1}, {"ICMPv6", 58}} {
		if p.word == word {
			return p.number, nil
		}
	}
	var number uint8
	if n, err := fmt.Sscanf(word, "IP_%d", &number); n != 1 || err != nil {
		return 0, fmt.Errorf("protocol %q is not known", word)
	}
	return number, nil
}

// parseAddrPort reads IPv4 as eight hex digits, and IPv6 as eight groups with colons (%pI6).
func parseAddrPort(addr, port []byte) (netip.AddrPort, error) {
	n, err := strconv.ParseUint(string(port), 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var a netip.Addr
	if len(addr) == 8 {
		var b [4]byte
		_, err = hex.Decode(b[:], addr)
		a = netip.AddrFrom4(b)
	} else {
		a, err = netip.ParseAddr(string(addr))
	}
	if err == nil && a.Zone() != "" {
		err = fmt.Errorf("%q has a zone", addr)
	}
	return netip.AddrPortFrom(a, uint16(n)), err
}
