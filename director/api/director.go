// Package api is the HTTP interface of a director: what travels over it, the handlers, and the client that the CLI uses.
//
// It owns no state. It reads immutable tables, and asks a Director for changes. It must not know disks or data planes.
package api

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"tunneldirector/affinity"
)

// A Director is what the handlers need.
type Director interface {
	// Table is the current state. It never changes; call again for a newer one.
	Table() *affinity.Table
	// Do applies changes, each for itself, in order, in one durable step, programs them and answers each. The error is of
	// the whole: context ended, or shutting down. A call of up to 2,000 changes is one step.
	Do(ctx context.Context, ops []affinity.Op) ([]affinity.Result, error)
	// View answers everything that is read and is not in the table.
	View() View
}

// A View is what a director knows besides its table. Its methods may be called from any goroutine.
type View interface {
	// Status is the whole state of the director, for /v1/status, /readyz and /metrics.
	Status(ctx context.Context) (Status, error)
	// Explain tells what happens to a packet, and why.
	Explain(ctx context.Context, q Question) (Explanation, error)
	// Up tells which of these tunnels are up by design rule 10 (agent, packets in the last 180 s, the NMS's word), and by what evidence.
	Up(ctx context.Context, tunnels []*affinity.Tunnel) ([]Evidence, error)
	// Events returns those after sequence number since, waiting for the first one until ctx ends; ErrGone if since is
	// unknown here (too old, or of the future).
	Events(ctx context.Context, since uint64) ([]Event, error)
}

// ErrGone answers a question for events that are not kept any more, or never were. Events are numbered by the table's
// revisions; between a revision and its events being told, a question for what comes after it may be answered so too.
var ErrGone = errors.New("these events are not known here")

// A Programmer is a View that can tell cheaply whether the data plane holds what the table says. Without it, it does.
type Programmer interface {
	Programmed() bool
}

// A Replicator is a View of a director that is one of several.
type Replicator interface {
	// Replicated waits until n of the others (below 0: all live ones) have all that was written here up to a revision, durable and
	// in their data planes, or until ctx ends, and names those that have.
	Replicated(ctx context.Context, revision uint64, n int) []string
}

// A Planner is a Director that takes complete sets.
type Planner interface {
	// Stamp is not below the stamp of any record that there is now.
	Stamp() affinity.Stamp
	// Scratch is a copy of the current table that is the caller's own, and the prefixes that tunnels must not touch.
	Scratch(ctx context.Context) (*affinity.Table, []netip.Prefix, error)
}

// A Rebalancer is a Director that can spread groups anew.
type Rebalancer interface {
	// RebalancePlan lists the moves, Repin{Idle: true}, that would even out a service ("": all), the most useful first.
	RebalancePlan(ctx context.Context, service string) ([]affinity.Op, error)
}

// Evidence is whether a tunnel is up and how we know.
type Evidence struct {
	Up       bool
	By       string    // one of those below; "" if down
	LastSeen time.Time // last packet through its pin, to 10 s, or as the agent says; zero: none seen
	At       string    // real server whose agent says so
}

// Who says whether a tunnel is up.
const (
	ByAgent   = "agent"
	ByPackets = "packets"
	ByNMS     = "nms"
	ByNobody  = "nobody" // is in a position to say that it is not: it counts as down, and yet is not moved
)

// A Question is a packet whose way is asked for.
type Question struct {
	Src      string `json:"src" query:"src" doc:"source address"`
	Dst      string `json:"dst" query:"dst" doc:"destination address: a VIP, or an address behind a tunnel"`
	Tenant   string `json:"tenant,omitempty" query:"tenant" doc:"tenant on the subnet side"`
	Proto    string `json:"proto,omitempty" query:"proto" doc:"esp, ah, gre, udp, tcp, ... or a number; default: the first that the VIP balances"`
	SrcPort  uint16 `json:"src_port,omitempty" query:"src_port" maximum:"65535"`
	DstPort  uint16 `json:"dst_port,omitempty" query:"dst_port" maximum:"65535"`
	Fragment string `json:"fragment,omitempty" query:"fragment" enum:",first,later"`
	SrcMAC   string `json:"src_mac,omitempty" query:"src_mac" doc:"MAC address, or real server by name, that it comes from: what a real server sends back is a loop"`
}

// An Explanation is the answer, made from the table and from the data plane itself.
type Explanation struct {
	Side        string   `json:"side" doc:"tunnel, subnet or empty"`
	Action      string   `json:"action" doc:"forward, drop or pass"`
	Reason      string   `json:"reason" doc:"why it is not forwarded"`
	Service     string   `json:"service,omitempty"`
	Tunnel      string   `json:"tunnel,omitempty" doc:"the tunnel that holds the claim"`
	Group       string   `json:"group,omitempty"`
	Matched     string   `json:"matched,omitempty" doc:"the key that decided"`
	RealServer  string   `json:"real_server,omitempty"`
	Incarnation uint32   `json:"incarnation,omitempty"`
	Primary     string   `json:"primary,omitempty"`
	Backup      string   `json:"backup,omitempty"`
	UsedBackup  bool     `json:"used_backup,omitempty"`
	IfItDies    string   `json:"if_it_dies,omitempty" doc:"who would get it if the chosen real server died now"`
	PinSince    string   `json:"pin_since,omitempty"`
	PinWhy      string   `json:"pin_why,omitempty"`
	PinnedBy    string   `json:"pinned_by,omitempty"`
	Words       []string `json:"words" doc:"each step of the decision in a sentence"`
	Agrees      bool     `json:"agrees" doc:"the data plane decides as the table says"`

	NextHops    []NextHop    `json:"next_hops" doc:"how the chosen real server is reached, by what the kernel and the data plane have"`
	Established []SeenTunnel `json:"established" doc:"where agents see the tunnel, the newest establishment first"`
	Agent       string       `json:"agent,omitempty" doc:"what the chosen real server's agent says"`
}

// Status is a director at a glance.
type Status struct {
	Name        string             `json:"name"`
	Version     string             `json:"version"`
	Store       string             `json:"store" doc:"store id"`
	Revision    uint64             `json:"revision"`
	Started     time.Time          `json:"started"`
	Ready       bool               `json:"ready"`
	NotReady    []string           `json:"not_ready,omitempty" doc:"why not"`
	Writable    bool               `json:"writable"`
	NotWritable string             `json:"not_writable,omitempty" doc:"why not, and the remedy"`
	Frozen      bool               `json:"frozen" doc:"automatic moves are stopped"`
	FrozenBy    string             `json:"frozen_by,omitempty"`
	Alarms      []string           `json:"alarms" doc:"what needs a person, in sentences"`
	Faults      []FaultInPlace     `json:"faults" doc:"failures that are made on purpose now"`
	Plane       PlaneStatus        `json:"plane"`
	Tunnels     TunnelCounts       `json:"tunnels"`
	NPlusOne    NPlusOne           `json:"n_plus_one"`
	RealServers []RealServerStatus `json:"real_servers"`
	Services    []ServiceStatus    `json:"services"`
	DiskFree    uint64             `json:"disk_free_bytes"`
	DiskUsed    uint64             `json:"disk_used_bytes"`
	ClockSays   string             `json:"clock,omitempty" doc:"empty, or how the clock is off"`
	ClockOffset float64            `json:"clock_offset_seconds" doc:"the clock less the other directors' median; of a director alone, less its newest record if that is ahead, or how far the clock jumped"`
}

// PlaneStatus is the data plane's side of the Status.
type PlaneStatus struct {
	Kind       string            `json:"kind" doc:"ipvs, xdp, shadow or mem"`
	ChosenBy   string            `json:"chosen_by" doc:"configuration, or auto"`
	Why        string            `json:"why" doc:"why it was chosen"`
	Detail     []string          `json:"detail" doc:"interfaces and modes"`
	InSync     bool              `json:"in_sync" doc:"the kernel holds what the table says"`
	LastError  string            `json:"last_error,omitempty"`
	Dropped    map[string]uint64 `json:"dropped_packets" doc:"by reason"`
	Passed     map[string]uint64 `json:"passed_packets" doc:"left to the director's own stack, by reason"`
	SubnetSide Traffic           `json:"subnet_side"`
	Tables     map[string]Usage  `json:"tables"`
}

// Traffic counts what was forwarded.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Usage is how full a kernel table is.
type Usage struct {
	Entries uint64 `json:"entries"`
	Max     uint64 `json:"max"`
}

// TunnelCounts sums up the table.
type TunnelCounts struct {
	Total     uint64 `json:"total"`
	Placed    uint64 `json:"placed"`
	Unplaced  uint64 `json:"unplaced"`
	NoBackup  uint64 `json:"no_backup"`
	Contested uint64 `json:"contested"`
	Split     uint64 `json:"split"`
}

// NPlusOne says whether the death of any one host can be borne.
type NPlusOne struct {
	OK      bool     `json:"ok"`
	Missing []string `json:"missing,omitempty"`
}

// RealServerStatus is a real server as it is now.
type RealServerStatus struct {
	Name         string   `json:"name"`
	Host         string   `json:"host"`
	Zone         string   `json:"zone,omitempty"`
	Addresses    []string `json:"addresses"`
	Services     []string `json:"services"`
	Admin        string   `json:"admin" enum:"active,drained"`
	State        string   `json:"state" enum:"new,alive,dead" doc:"new: not seen alive yet"`
	Cause        string   `json:"cause,omitempty" doc:"why it is in this state"`
	Since        string   `json:"since,omitempty"`
	Incarnation  uint32   `json:"incarnation"`
	Index        uint16   `json:"index" doc:"in the data plane"`
	Weight       uint32   `json:"weight"`
	Capacity     uint32   `json:"capacity" doc:"in tunnels; 0: no limit"`
	Tunnels      uint32   `json:"tunnels" doc:"whose primary it is"`
	BackupFor    uint32   `json:"backup_for" doc:"tunnels whose backup it is"`
	BandwidthBPS uint64   `json:"bandwidth_bps" doc:"expected"`
	Traffic      Traffic  `json:"traffic" doc:"all incarnations"`
	RTTMicros    int64    `json:"rtt_us,omitempty" doc:"last probe's round trip"`

	Drain *DrainStatus `json:"drain,omitempty" doc:"how it is emptied; missing if it is not"`
	Agent *AgentStatus `json:"agent,omitempty" doc:"what its agent says; missing if it never had one"`
}

// DrainStatus is how a drain stands.
type DrainStatus struct {
	Started  time.Time  `json:"started"`
	Of       uint32     `json:"of" doc:"tunnels that it had when the drain began"`
	Left     uint32     `json:"left" doc:"tunnels that it still has"`
	Rate     float64    `json:"rate" doc:"tunnels a second"`
	Deadline *time.Time `json:"deadline,omitempty" doc:"when the rest is moved"`
	ETA      *time.Time `json:"eta,omitempty" doc:"when it will be empty, if there is room elsewhere"`
	Stuck    string     `json:"stuck,omitempty" doc:"why the last tunnel could not be moved"`
}

// AgentStatus is what an agent says of its real server.
type AgentStatus struct {
	Connected   bool       `json:"connected"`
	Since       time.Time  `json:"since" doc:"of its being connected or not"`
	Host        string     `json:"host"`
	Terminator  string     `json:"terminator" doc:"kind of tunnel software"`
	Health      string     `json:"health" enum:"unknown,working,headless,dead" doc:"headless: the control process is gone, established tunnels go on"`
	Cause       string     `json:"cause,omitempty"`
	Established int        `json:"established" doc:"tunnels"`
	Closed      string     `json:"closed,omitempty" doc:"why it gets no new tunnels"`
	Load        []LoadPart `json:"load"`
	LoadPercent float64    `json:"load_percent" doc:"highest of the parts, of its limit"`
	Orders      OrderCount `json:"orders"`
}

// LoadPart is one measure of a terminator's load.
type LoadPart struct {
	Name    string  `json:"name"`
	Percent float64 `json:"percent" doc:"of its limit"`
	Says    string  `json:"says"`
}

// OrderCount counts what was ordered of an agent lately.
type OrderCount struct {
	Open    int `json:"open"`
	Done    int `json:"done"`
	Waiting int `json:"waiting" doc:"the terminator cannot begin; the site has to dial"`
	Failed  int `json:"failed"`
}

// An Order is what was ordered of an agent for one tunnel, and how it stands.
type Order struct {
	RealServer string    `json:"real_server"`
	Kind       string    `json:"kind" enum:"adopt,release"`
	Tunnel     string    `json:"tunnel"`
	Peer       string    `json:"peer,omitempty" doc:"as the terminator calls it"`
	Endpoint   string    `json:"endpoint"`
	Outcome    string    `json:"outcome" enum:"unsent,sent,queued,trying,done,waiting,failed" doc:"unsent: the agent is silent; sent: it has not answered yet"`
	Why        string    `json:"why,omitempty"`
	Ordered    time.Time `json:"ordered"`
	Changed    time.Time `json:"changed"`
}

// The ways in which what is seen differs from what is wanted.
const (
	SeenRight   = "right"       // established where it is pinned
	SeenWrong   = "wrong-place" // established at another real server than it is pinned to
	SeenUnknown = "unknown"     // established, and of no tunnel
	SeenNot     = "not-up"      // the NMS says up, its real server's agent says it is not
)

// A SeenTunnel is what agents see of a tunnel, against what is wanted.
type SeenTunnel struct {
	State    string     `json:"state" enum:"right,wrong-place,unknown,not-up"`
	Tunnel   string     `json:"tunnel,omitempty"`
	At       string     `json:"at,omitempty" doc:"real server where it is established"`
	Pinned   string     `json:"pinned,omitempty" doc:"real server that its packets go to"`
	Peer     string     `json:"peer,omitempty" doc:"as the terminator calls it"`
	Endpoint string     `json:"endpoint,omitempty"`
	Subnets  []string   `json:"subnets,omitempty" doc:"as the terminator knows them"`
	Since    *time.Time `json:"since,omitempty" doc:"established"`
	Last     *time.Time `json:"last,omitempty" doc:"last packet from the site"`
	RxBytes  uint64     `json:"rx_bytes,omitempty"`
	TxBytes  uint64     `json:"tx_bytes,omitempty"`
}

// An Observed is a View of a director that hears agents.
type Observed interface {
	// Seen calls f for what agents see in these states, in no order, until it returns false.
	Seen(ctx context.Context, states []string, f func(SeenTunnel) bool) error
	// Orders are those of agents, of one real server or ("") all, open ones first.
	Orders(realServer string) []Order
}

// ServiceStatus is a service's counters.
type ServiceStatus struct {
	Name    string            `json:"name"`
	Tunnels uint64            `json:"tunnels"`
	Traffic Traffic           `json:"traffic"`
	Dropped map[string]uint64 `json:"dropped_packets"`
}

// An Event is something that happened to the table or the real servers.
type Event struct {
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind" enum:"tunnel-put,tunnel-deleted,placed,moved,unplaced,contested,real-server,service,alarm,freeze"`
	Object string    `json:"object" doc:"tunnel or group id, real server or service"`
	From   string    `json:"from,omitempty" doc:"real server before"`
	To     string    `json:"to,omitempty" doc:"real server now"`
	Backup string    `json:"backup,omitempty"`
	Why    string    `json:"why,omitempty"`
	By     string    `json:"by,omitempty" doc:"who asked"`
}
