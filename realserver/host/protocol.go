package host

import (
	"errors"
	"strconv"
	"strings"
)

// A protocol is what a firewall has to let in.
type protocol struct {
	number uint8
	port   uint16 // 0: any, or it has none
}

var protocolNumbers = map[string]uint8{"ipip": 4, "tcp": 6, "udp": 17, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51, "l2tp": 115}

// parseProtocol reads esp, udp, udp/4500 or a number.
func parseProtocol(s string) (protocol, error) {
	name, port, hasPort := strings.Cut(s, "/")
	p := protocol{number: protocolNumbers[name]}
	if p.number == 0 {
		n, err := strconv.ParseUint(name, 10, 8)
		if err != nil || n == 0 {
			return p, errors.New("not a protocol's name or number")
		}
		p.number = uint8(n)
	}
	if !hasPort {
		return p, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || p.number != protocolNumbers["udp"] && p.number != protocolNumbers["tcp"] {
		return p, errors.New("not udp or tcp with a port")
	}
	p.port = uint16(n)
	return p, nil
}
