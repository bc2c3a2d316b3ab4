package agent

import (
	"net/netip"
	"time"
)

// Format is the version of the messages. Each side speaks the lower one of the two; there is one so far.
const Format = 1

// Protocol is the stream's name in TLS (ALPN). It changes only if a Hello of one format is not one of another.
const Protocol = "tunneldirector-agent/1"

// Bounds of what is accepted from the other side.
const (
	MaxFrame     = 1 << 20 // bytes of a message
	MaxServers   = 64      // real servers of one agent
	MaxTunnels   = 2000    // in one Report or Order
	MaxSubnets   = 256     // of one tunnel
	MaxText      = 400     // bytes of a name, a cause, any text; valid UTF-8
	MaxReported  = 50_000  // tunnels of one real server
	MaxFound     = 16      // findings in a Status
	MaxFaultID   = 64      // bytes of the ID of a fault
	MaxFault     = 10 * time.Minute
	Patience     = 10 * time.Second
	DefaultProbe = 7461 // UDP, at the VIP

	maxVIPs  = 64  // of a real server in Hello
	maxParts = 256 // of a load
)

// A Message is one frame: exactly one of the fields is there. A Message with none is a keepalive, and so is one of a kind that who
// receives it does not know yet.
type Message struct {
	Hello    *Hello    `cbor:"1,keyasint,omitempty"`
	Welcome  *Welcome  `cbor:"2,keyasint,omitempty"`
	Report   *Report   `cbor:"3,keyasint,omitempty"`
	Known    *Known    `cbor:"4,keyasint,omitempty"`
	Status   *Status   `cbor:"5,keyasint,omitempty"`
	Order    *Order    `cbor:"6,keyasint,omitempty"`
	Progress *Progress `cbor:"7,keyasint,omitempty"`
	Refused  *Refused  `cbor:"8,keyasint,omitempty"`
	Verdict  *Verdict  `cbor:"9,keyasint,omitempty"`
}

// Hello is the agent's first message.
type Hello struct {
	Format      uint8    `cbor:"1,keyasint"`
	Version     string   `cbor:"2,keyasint"` // of the program, for people
	Instance    string   `cbor:"3,keyasint"` // of this run of the agent: random
	RealServers []Server `cbor:"4,keyasint"`
}

// A Server is a real server that the agent looks after.
type Server struct {
	Name       string       `cbor:"1,keyasint"`
	Terminator string       `cbor:"2,keyasint"` // its kind, for people
	ProbePort  uint16       `cbor:"3,keyasint"` // where it answers Probe, at each VIP; 0: nowhere
	VIPs       []netip.Addr `cbor:"4,keyasint"`
	Method     string       `cbor:"5,keyasint"` // dr, tunnel or masq, as the host is prepared
}

// Welcome answers Hello.
type Welcome struct {
	Format   uint8             `cbor:"1,keyasint"`
	Director string            `cbor:"2,keyasint"`
	Known    map[string]uint64 `cbor:"3,keyasint"` // by real server: the Seq up to which this Instance's reports are known; 0: none, send all
	Refused  map[string]string `cbor:"4,keyasint"` // by real server: why the agent may not speak for it now; it may ask again
	Warnings []string          `cbor:"5,keyasint"` // e.g. VIPs that differ from the service's
}

// Refused is the last message of a director that ends the stream on purpose.
type Refused struct {
	Why string `cbor:"1,keyasint"`
}

// A Report tells of established tunnels. Reports of a real server are numbered by Seq, rising. Whole ones replace what was
// known, from First to Last, of the same Seq; others change it.
type Report struct {
	RealServer string   `cbor:"1,keyasint"`
	Seq        uint64   `cbor:"2,keyasint"`
	Whole      bool     `cbor:"3,keyasint,omitempty"`
	First      bool     `cbor:"4,keyasint,omitempty"`
	Last       bool     `cbor:"5,keyasint,omitempty"`
	Up         []Tunnel `cbor:"6,keyasint,omitempty"` // established, or changed
	Down       []string `cbor:"7,keyasint,omitempty"` // peers that are not established any more
}

// A Tunnel is one that is established at a terminator.
type Tunnel struct {
	Peer     string         `cbor:"1,keyasint"`           // what the terminator calls it; one of a kind there, and the same on each terminator with the same configuration
	Local    netip.Addr     `cbor:"2,keyasint"`           // outer address here: the VIP; invalid: not known
	Endpoint netip.AddrPort `cbor:"3,keyasint"`           // the site's outer address and port; port 0: it has none (ESP, GRE)
	Subnets  []netip.Prefix `cbor:"4,keyasint,omitempty"` // behind it, as the terminator knows them
	Since    time.Time      `cbor:"5,keyasint"`           // established
	Last     time.Time      `cbor:"6,keyasint,omitempty"` // last packet from the site; zero: not known
	Rx       uint64         `cbor:"7,keyasint,omitempty"` // bytes from the site
	Tx       uint64         `cbor:"8,keyasint,omitempty"` // bytes to the site
}

// Known acknowledges reports up to Seq.
type Known struct {
	RealServer string `cbor:"1,keyasint"`
	Seq        uint64 `cbor:"2,keyasint"`
}

// A Verdict is what a director makes of a real server, for people on its host. It is sent after the Welcome and at each change; a
// director that is older than it sends none.
type Verdict struct {
	RealServer string    `cbor:"1,keyasint"`
	State      string    `cbor:"2,keyasint"` // new, alive or dead
	Since      time.Time `cbor:"3,keyasint"` // of this state
	Why        string    `cbor:"4,keyasint"`
	Drained    time.Time `cbor:"5,keyasint"` // since when it is, by an operator; zero: it is not
	Shut       string    `cbor:"6,keyasint"` // why it gets no new tunnels, for what it or its probes say; "": it gets some
}

// A Health is what an agent says of its terminator.
type Health uint8

// The healths. Their order is of no meaning.
const (
	HealthUnknown  Health = iota // not asked yet
	HealthWorking                // control and data
	HealthHeadless               // its control process is dead or hangs, established tunnels carry packets
	HealthDead                   // it carries nothing
)

func (h Health) String() string {
	if int(h) < len(healths) {
		return healths[h]
	}
	return "unknown"
}

var healths = [...]string{"unknown", "working", "headless", "dead"}

// A Status is a real server's health and load.
type Status struct {
	RealServer string    `cbor:"1,keyasint"`
	Health     Health    `cbor:"2,keyasint"`
	Cause      string    `cbor:"3,keyasint"` // in words
	Since      time.Time `cbor:"4,keyasint"` // of this health
	Closed     bool      `cbor:"5,keyasint"` // takes no new tunnels, by order
	Load       Load      `cbor:"6,keyasint"`
	Tunnels    uint32    `cbor:"7,keyasint"`           // established
	Flooded    bool      `cbor:"8,keyasint,omitempty"` // lately more questions came on the data path than are answered: silence there proves nothing
	Found      []Finding `cbor:"9,keyasint,omitempty"` // what is wrong with the host, as of the last minute
	// FoundAsBefore says that Found is what the Status before it in this stream had, and left out.
	FoundAsBefore bool `cbor:"10,keyasint,omitempty"`
}

// A Finding is something that is wrong with a real server's host.
type Finding struct {
	ID       string `cbor:"1,keyasint"` // of this kind of finding
	What     string `cbor:"2,keyasint"` // the fact
	Causes   string `cbor:"3,keyasint"` // what becomes of packets
	Remedy   string `cbor:"4,keyasint"` // a command, mostly
	Severity string `cbor:"5,keyasint"` // breaks, risks or notes
}

// A Load is how near a real server is to its limit. The figure is the highest of its parts, each a share of its own limit.
type Load struct {
	Permille uint32 `cbor:"1,keyasint"` // 1000: at the limit
	Full     bool   `cbor:"2,keyasint"` // takes no new pins; with hysteresis, so not simply Permille >= 1000
	Parts    []Part `cbor:"3,keyasint"`
}

// A Part is one measure of load.
type Part struct {
	Name     string `cbor:"1,keyasint"` // e.g. "cpu 3", "softirq 3", "receive drops", "tun drops", "tunnels"
	Permille uint32 `cbor:"2,keyasint"` // of its limit
	Says     string `cbor:"3,keyasint"` // with units: "82 % of a core, ceiling 80 %"
}

// An OrderKind is what a director wants done.
type OrderKind uint8

// The kinds of orders.
const (
	OrderAdopt   OrderKind = iota + 1 // establish these tunnels
	OrderRelease                      // give these tunnels up, and tell the site if the protocol can
	OrderAccept                       // take new tunnels again
	OrderClose                        // take no new tunnels
	OrderForget                       // adopt these no more
	OrderInject                       // make a fault, for a drill
	OrderUndo                         // undo a fault
)

func (k OrderKind) String() string {
	return [...]string{"none", "adopt", "release", "accept", "close", "forget", "inject", "undo"}[min(int(k), 7)]
}

// An Order is about one real server. It is idempotent: after a break of the stream it is sent again until it is answered. An agent
// that does not know a kind ignores the order.
type Order struct {
	RealServer string      `cbor:"1,keyasint"`
	Kind       OrderKind   `cbor:"2,keyasint"`
	Tunnels    []Inherited `cbor:"3,keyasint,omitempty"`
	Fault      *FaultOrder `cbor:"4,keyasint,omitempty"` // with OrderInject and OrderUndo alone
}

// A FaultOrder is about a fault that is made on purpose at a real server. The agent answers with Progress of the same kind, whose one
// Step has the fault's ID: OutcomeTrying at once, then OutcomeDone, or OutcomeFailed with the reason. What is undone already, or was
// never made, is undone. The agent undoes each fault after its time, however the stream is.
type FaultOrder struct {
	ID     string `cbor:"1,keyasint"`           // of this one: 1 to MaxFaultID letters, digits and dashes
	Kind   string `cbor:"2,keyasint"`           // a drill's: terminator-crash
	Millis uint32 `cbor:"3,keyasint,omitempty"` // it is undone after so long, at most MaxFault
	Undo   bool   `cbor:"-"`                    // the order's kind says it
}

// Inherited is a tunnel that a real server gets from, or gives to, another.
type Inherited struct {
	ID        string         `cbor:"1,keyasint"` // of the tunnel in the table; unique within kind
	Peer      string         `cbor:"2,keyasint"` // as the terminator before called it; "" if it never told
	Local     netip.Addr     `cbor:"3,keyasint"` // VIP
	Endpoint  netip.AddrPort `cbor:"4,keyasint"` // last seen outer address and port, or what the table says
	Subnets   []netip.Prefix `cbor:"5,keyasint,omitempty"`
	Bandwidth uint64         `cbor:"6,keyasint,omitempty"` // expected, bit/s: the highest come first
	AgeMillis uint32         `cbor:"7,keyasint,omitempty"` // how long ago it was ordered; what was established since is not meant by a release
}

// An Outcome is how an order for one tunnel stands.
type Outcome uint8

// The outcomes. Done, Waiting and Failed are final; the director may order again.
const (
	OutcomeQueued  Outcome = iota + 1 // waits for its turn
	OutcomeTrying                     // asked of the terminator
	OutcomeDone                       // established, or released
	OutcomeWaiting                    // this terminator cannot begin: the site has to dial
	OutcomeFailed
)

func (o Outcome) String() string {
	return [...]string{"none", "queued", "trying", "done", "waiting", "failed"}[min(int(o), 5)]
}

// Progress tells of tunnels of an order.
type Progress struct {
	RealServer string    `cbor:"1,keyasint"`
	Kind       OrderKind `cbor:"2,keyasint"`
	Tunnels    []Step    `cbor:"3,keyasint"`
}

// A Step is one tunnel's.
type Step struct {
	ID      string  `cbor:"1,keyasint"`
	Outcome Outcome `cbor:"2,keyasint"`
	Why     string  `cbor:"3,keyasint,omitempty"`
}
