package affinity

import (
	"fmt"
	"strconv"
	"strings"
)

// The words by which people and JSON name the small sets of values.

var (
	methodWords  = []string{"dr", "tunnel", "masq"}
	policyWords  = []string{"least-load", "round-robin"}
	unknownWords = []string{"drop", "hash"}
	adminWords   = []string{"active", "drained"}
	stateWords   = []string{"", "down", "coming", "up"}
)

func (m Method) String() string  { return methodWords[m] }
func (p Policy) String() string  { return policyWords[p] }
func (u Unknown) String() string { return unknownWords[u] }
func (a Admin) String() string   { return adminWords[a] }
func (s State) String() string   { return stateWords[s] }

// ParseMethod reads dr, tunnel or masq; "" is dr.
func ParseMethod(s string) (Method, error) { return parseWord[Method](methodWords, s) }

// ParsePolicy reads least-load or round-robin; "" is least-load.
func ParsePolicy(s string) (Policy, error) { return parseWord[Policy](policyWords, s) }

// ParseUnknown reads drop or hash; "" is drop.
func ParseUnknown(s string) (Unknown, error) { return parseWord[Unknown](unknownWords, s) }

// ParseState reads down, coming or up; "" is unsaid.
func ParseState(s string) (State, error) { return parseWord[State](stateWords, s) }

func parseWord[T ~uint8](words []string, s string) (T, error) {
	if s == "" {
		return 0, nil
	}
	for i, w := range words {
		if s == w {
			return T(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not one of %s", s, strings.Join(nonEmpty(words), ", "))
}

func nonEmpty(words []string) []string {
	if words[0] == "" {
		return words[1:]
	}
	return words
}

// ParseMatch reads one line of a protocol set: esp, ah, gre, l2tp, ipip, ip/NUMBER, udp/PORT, tcp/PORT, udp/LOW-HIGH.
func ParseMatch(s string) (Match, error) {
	name, rest, slash := strings.Cut(s, "/")
	for proto, n := range protoNames {
		if n != name {
			continue
		}
		switch {
		case HasPorts(proto) && slash:
			return parsePorts(proto, rest)
		case HasPorts(proto):
			return Match{}, fmt.Errorf("%q lacks a port; write %s/500 or %s/5000-5100", s, name, name)
		case slash:
			return Match{}, fmt.Errorf("%q: %s has no ports; write %s", s, name, name)
		}
		return Match{Proto: proto}, nil
	}
	if name == "ip" && slash {
		n, err := strconv.ParseUint(rest, 10, 8)
		if err != nil {
			return Match{}, fmt.Errorf("%q: %q is not an IP protocol number (1-255)", s, rest)
		}
		switch n {
		case 0, 1, 6, 17, 58:
			return Match{}, fmt.Errorf("%q: protocol %d cannot be balanced this way; UDP and TCP are written udp/PORT and tcp/PORT", s, n)
		}
		return Match{Proto: uint8(n)}, nil
	}
	return Match{}, fmt.Errorf("%q is not a protocol; write esp, ah, gre, l2tp, ipip, ip/NUMBER, udp/PORT or tcp/PORT", s)
}

func parsePorts(proto uint8, s string) (Match, error) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	lo, err1 := strconv.ParseUint(low, 10, 16)
	hi, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || lo == 0 || hi < lo {
		return Match{}, fmt.Errorf("%q is not a port or a range of ports between 1 and 65535", s)
	}
	return Match{Proto: proto, Lo: uint16(lo), Hi: uint16(hi)}, nil
}

// ParseProto reads an IP protocol by name or number; ip/NUMBER, as ProtoName has it, is one too.
func ParseProto(s string) (uint8, error) {
	for proto, name := range protoNames {
		if name == s {
			return proto, nil
		}
	}
	switch s {
	case "icmp":
		return 1, nil
	case "icmpv6":
		return 58, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "ip/"), 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not an IP protocol", s)
	}
	return uint8(n), nil
}

// ProtoName is an IP protocol as people call it.
func ProtoName(proto uint8) string {
	if name, ok := protoNames[proto]; ok {
		return name
	}
	return fmt.Sprintf("ip/%d", proto)
}
