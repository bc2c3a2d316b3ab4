package exec

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/go-json-experiment/json"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// maxLine bounds a line: a tunnel with as many subnets as may be takes a fifth of it.
const maxLine = 64 << 10

// A line is one tunnel, as a program prints it.
type line struct {
	Peer     string         `json:"peer"`
	Local    netip.Addr     `json:"local"`
	Endpoint site           `json:"endpoint"`
	Subnets  []netip.Prefix `json:"subnets"`
	Since    float64        `json:"since"`
	Last     float64        `json:"last"`
	Rx       uint64         `json:"rx"`
	Tx       uint64         `json:"tx"`
}

// A site is an address, with or without a port.
type site struct{ netip.AddrPort }

func (s *site) UnmarshalText(b []byte) error {
	if a, err := netip.ParseAddr(string(b)); err == nil {
		s.AddrPort = netip.AddrPortFrom(a.Unmap(), 0)
		return nil
	}
	at, err := netip.ParseAddrPort(string(b))
	s.AddrPort = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	return err
}

// parse reads a list of tunnels. Nothing of it is taken if one line is wrong: half a list would tell that tunnels are down.
func parse(text []byte) ([]agent.Tunnel, error) {
	tunnels := []agent.Tunnel{}
	at := map[string]int{} // by peer: the line
	for n := 1; len(text) > 0; n++ {
		b, rest, whole := bytes.Cut(text, []byte("\n"))
		text = rest
		if !whole {
			return nil, fmt.Errorf("line %d: it breaks off", n)
		}
		t, err := parseLine(b)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if before, ok := at[t.Peer]; ok {
			return nil, fmt.Errorf("line %d: peer %q is on line %d already", n, t.Peer, before)
		}
		at[t.Peer] = n
		if len(tunnels) == agent.MaxReported {
			return nil, fmt.Errorf("line %d: at most %d tunnels", n, agent.MaxReported)
		}
		tunnels = append(tunnels, t)
	}
	return tunnels, nil
}

func parseLine(b []byte) (agent.Tunnel, error) {
	var l line
	if len(b) > maxLine {
		return agent.Tunnel{}, fmt.Errorf("%d bytes: at most %d", len(b), maxLine)
	}
	if err := json.Unmarshal(b, &l, json.RejectUnknownMembers(true)); err != nil {
		return agent.Tunnel{}, err
	}
	if err := l.check(); err != nil {
		return agent.Tunnel{}, err
	}
	return agent.Tunnel{
		Peer: l.Peer, Local: l.Local.Unmap(), Endpoint: l.Endpoint.AddrPort, Subnets: l.Subnets,
		Since: moment(l.Since), Last: moment(l.Last), Rx: l.Rx, Tx: l.Tx,
	}, nil
}

// latest is in the year 5138: what is later was not meant as seconds.
const latest = 1e11

func (l *line) check() error {
	switch {
	case l.Peer == "" || len(l.Peer) > agent.MaxText:
		return fmt.Errorf("peer has %d bytes: 1 to %d", len(l.Peer), agent.MaxText)
	case !l.Endpoint.Addr().IsValid() || l.Endpoint.Addr().IsUnspecified():
		return errors.New("endpoint is not an address, or address:port")
	case len(l.Subnets) > agent.MaxSubnets:
		return fmt.Errorf("%d subnets: at most %d", len(l.Subnets), agent.MaxSubnets)
	case l.Since < 0 || l.Since > latest || l.Last < 0 || l.Last > latest:
		return errors.New("since and last are seconds since 1970")
	}
	for _, s := range l.Subnets {
		if !s.IsValid() || s != s.Masked() || s.Addr().Is4In6() {
			return fmt.Errorf("%s is not a subnet", s)
		}
	}
	return nil
}

// moment is a time in seconds since 1970; zero: not known.
func moment(seconds float64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9))
}

// parseWork reads what the software works with.
func parseWork(text []byte) (terminator.Work, error) {
	var w struct {
		Processes []int            `json:"processes"`
		Sockets   []netip.AddrPort `json:"sockets"`
		Devices   []string         `json:"devices"`
		Threads   int              `json:"threads"`
	}
	if err := json.Unmarshal(text, &w, json.RejectUnknownMembers(true)); err != nil {
		return terminator.Work{}, err
	}
	for _, pid := range w.Processes {
		if pid <= 0 {
			return terminator.Work{}, fmt.Errorf("process %d", pid)
		}
	}
	if w.Threads < 0 {
		return terminator.Work{}, fmt.Errorf("%d threads", w.Threads)
	}
	return terminator.Work{Processes: w.Processes, Sockets: w.Sockets, Devices: w.Devices, Threads: w.Threads}, nil
}
