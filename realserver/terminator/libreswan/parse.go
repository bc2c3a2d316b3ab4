package libreswan

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// What whack prints, of libreswan 4 and 5; states are told by number.
var (
	// 006 #2: "site-001"[1] 203.0.113.11, type=ESP, add_time=1637470, inBytes=252, outBytes=252, maxBytes=2^63B, id='@site-001'
	trafficLine = regexp.MustCompile(`^\d+ #(\d+): "([^"]+)".*add_time=(\d+), inBytes=(\d+), outBytes=(\d+)(?:.*, id='(.*)')?`)
	// 000 #2: "site-001"[1] 203.0.113.11:500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); ...; IKE SA #1; idle;
	childLine = regexp.MustCompile(`^\d+ #(\d+): "[^"]+"(?:\[\d+\] ([0-9a-f.:]+))?:(\d+)(?:\([A-Z]+\))? STATE_(?:V2_ESTABLISHED_CHILD_SA|QUICK_[IR]2) `)
	// 000 "site-001"[1]: 192.0.2.128/25===192.0.2.10[@vip]...203.0.113.11[@site-001]===100.64.1.0/28; erouted; eroute owner: #2
	policyLine = regexp.MustCompile(`^\d+ "([^"]+)"(?:\[\d+\])?[^:"]*?(?: [0-9a-f.:]+)?:\s+(\S.*\.\.\..*?); .*owner: (?:Child SA )?#(\d+)`)
	ikeOf      = regexp.MustCompile(`(?:IKE SA|ISAKMP|isakmp) ?#(\d+);`)
)

// A traffic is a Child SA that carries packets.
type traffic struct {
	connection, id string
	added          time.Time
	rx, tx         uint64
}

func parseTraffic(out string) (map[uint64]traffic, error) {
	all := map[uint64]traffic{}
	for line := range strings.Lines(out) {
		m := trafficLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		n, err := numbers(m[1], m[3], m[4], m[5])
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", line, err)
		}
		all[n[0]] = traffic{connection: m[2], id: m[6], added: time.Unix(int64(n[1]), 0), rx: n[2], tx: n[3]}
	}
	return all, nil
}

// A childState is a Child SA's IKE SA, and whom it speaks to; the address is told where the connection is one to any.
type childState struct {
	ike  uint64
	at   netip.Addr
	port uint16
}

func parseStates(out string) (map[uint64]childState, error) {
	all := map[uint64]childState{}
	for line := range strings.Lines(out) {
		m := childLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		n, err := numbers(m[1], m[3])
		if err != nil || n[1] > 65535 {
			return nil, fmt.Errorf("read %q: a number is none", line)
		}
		at, _ := netip.ParseAddr(m[2])
		c := childState{at: at, port: uint16(n[1])}
		if by := ikeOf.FindStringSubmatch(line); by != nil {
			if c.ike, err = strconv.ParseUint(by[1], 10, 64); err != nil {
				return nil, fmt.Errorf("read %q: %w", line, err)
			}
		}
		all[n[0]] = c
	}
	return all, nil
}

// A policy is what a Child SA is for.
type policy struct {
	connection    string
	local, remote netip.Addr
	behind        netip.Prefix // invalid: the site itself
}

func parsePolicies(out string) (map[uint64]policy, error) {
	all := map[uint64]policy{}
	for line := range strings.Lines(out) {
		m := policyLine.FindStringSubmatch(line)
		if m == nil || m[3] == "0" {
			continue
		}
		owner, err := strconv.ParseUint(m[3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", line, err)
		}
		left, right, _ := strings.Cut(m[2], "...")
		if _, host, ok := strings.Cut(left, "==="); ok {
			left = host
		}
		host, net, routed := strings.Cut(right, "===")
		if i := strings.LastIndex(host, "---"); i >= 0 { // the next hop comes first on this side
			host = host[i+3:]
		}
		p := policy{connection: m[1], local: hostOf(left), remote: hostOf(host)}
		if routed {
			p.behind = networkOf(net)
		}
		all[owner] = p
	}
	return all, nil
}

// hostOf is the address that a side begins with: 192.0.2.10<name>[@id,...]:17/1701---192.0.2.1.
func hostOf(s string) netip.Addr {
	end := len(s)
	for i := range s {
		if c := s[i]; !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c == '.' || c == ':') {
			end = i
			break
		}
	}
	a, _ := netip.ParseAddr(s[:end])
	return a
}

func networkOf(s string) netip.Prefix {
	s, _, _ = strings.Cut(strings.TrimSpace(s), " ")
	net, bits, _ := strings.Cut(s, "/")
	bits, _, _ = strings.Cut(bits, "/") // of protocol and port
	bits, _, _ = strings.Cut(bits, ":")
	p, _ := netip.ParsePrefix(net + "/" + bits)
	return p.Masked()
}

func numbers(texts ...string) ([]uint64, error) {
	var all []uint64
	for _, t := range texts {
		n, err := strconv.ParseUint(t, 10, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}
