package probe

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"tunneldirector/affinity"
)

// PortBase plus an index is the source port of a real server's probes (61000 to 65095, above Linux's default range of
// ephemeral ports), and the identifier of its ICMP echo.
const PortBase = 61000

// closedHold is how long a TCP port is believed closed after a RST, unless it answers. Of UDP see udpPort.
const closedHold = 3 * time.Second

// Config says how to measure. Zero values take the defaults.
type Config struct {
	Interfaces  []string      // of all roles: their carrier is watched; real servers on one of their segments are probed there
	Interval    time.Duration // between rounds; 200 ms
	Timeout     time.Duration // until a round is judged; what comes later counts for the next one; 100 ms, at most Interval
	DeadAfter   int           // rounds missed or closed in a row; 4: dead after at most 960 ms
	SilentAfter int           // rounds without a proof of life in a row, silent ones too; 10
	AliveAfter  int           // rounds answered in a row; 3

	// Heard tells when the agent of a real server, by name, last said on its control stream how that is; zero: never. It is
	// asked, in the prober's goroutine, only while an agent's stream is up and its answers do not come: silence on the data
	// path counts once the agent was heard after it began. nil: only once the stream has outlived it by agent.Patience.
	Heard func(realServer string) time.Time
	// Flooded tells whether the agent of a real server said on its control stream, last, that it gets more questions than it
	// answers: then its silence on the data path proves nothing. It is asked as Heard is. nil: no agent does.
	Flooded func(realServer string) bool
}

func (c Config) complete() (Config, error) {
	c.Interval = cmp.Or(c.Interval, 200*time.Millisecond)
	c.Timeout = cmp.Or(c.Timeout, c.Interval/2)
	c.DeadAfter, c.AliveAfter = cmp.Or(c.DeadAfter, 4), cmp.Or(c.AliveAfter, 3)
	c.SilentAfter = cmp.Or(c.SilentAfter, max(10, c.DeadAfter))
	switch {
	case c.Interval < 10*time.Millisecond:
		return c, fmt.Errorf("probe interval %v: at least 10ms", c.Interval)
	case c.Timeout <= 0 || c.Timeout > c.Interval:
		return c, fmt.Errorf("probe timeout %v: more than 0 and at most the interval, %v", c.Timeout, c.Interval)
	case c.DeadAfter < 1 || c.AliveAfter < 1 || c.SilentAfter < c.DeadAfter:
		return c, errors.New("probe thresholds: dead_after and alive_after at least 1, silent_after at least dead_after")
	}
	return c, nil
}

// A Target is one incarnation of a real server.
type Target struct {
	Index  affinity.Index
	Name   string       // for people, and in questions to its agent
	Addrs  []netip.Addr // on the real servers' network; all have to answer
	VIPs   []netip.Addr // where Check.Port is asked; all have to answer
	Check  affinity.Check
	Method affinity.Method

	Agent   uint16 // where its agent answers probes, at each VIP; 0: it has none. Not asked under masq, where it holds no VIP
	AgentUp bool   // the agent's control stream is up
}

// An Event is a change of what the measurements say; the first one of a target comes from "not known".
type Event struct {
	Index affinity.Index
	Name  string
	Alive bool
	Cause string // what answered, or what did not
	At    time.Time
	RTT   time.Duration    // of the last answer; 0: none
	MAC   net.HardwareAddr // next hop's, if it is known
	Agent Word
}

// A Link is a change, or the first sight, of an interface of the director's own.
type Link struct {
	Interface string
	Up        bool // administratively, and with carrier; false too if it does not exist
	At        time.Time
}
