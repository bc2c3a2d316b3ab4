package drill

import (
	"slices"
	"time"
)

// A Drill is a rehearsal as a file says it. Parse reads one, Builtin has those that come with the program.
type Drill struct {
	Name   string `json:"name" yaml:"name"` // lower-case letters, digits and dashes
	What   string `json:"what" yaml:"what"` // in a sentence: what is rehearsed
	Needs  Needs  `json:"needs" yaml:"needs"`
	Sample Sample `json:"sample" yaml:"sample"`
	Steps  []Step `json:"steps" yaml:"steps"`
	Expect Expect `json:"expect" yaml:"expect"`
	Abort  Abort  `json:"abort" yaml:"abort"`
}

// Needs is what has to be there, or the drill does not begin.
type Needs struct {
	Directors   int  `json:"directors,omitzero" yaml:"directors"`       // ready
	RealServers int  `json:"real_servers,omitzero" yaml:"real_servers"` // alive
	Tunnels     int  `json:"tunnels,omitzero" yaml:"tunnels"`           // up
	Spare       bool `json:"spare,omitzero" yaml:"spare"`               // the other real servers take new tunnels, and have room for what the target's host carries
}

// A Sample says which tunnels packets are sent through.
type Sample struct {
	Tunnels int           `json:"tunnels" yaml:"tunnels"`          // at most so many, spread over real servers; those that Run is given come first; default 20
	Every   time.Duration `json:"every,format:units" yaml:"every"` // between two packets of a tunnel; default 50ms
}

// A Step does one thing; exactly one of Wait, Fault, Emptied, Undo and Settle is there.
type Step struct {
	Wait    time.Duration `json:"wait,omitzero,format:units" yaml:"wait"`
	Fault   Kind          `json:"fault,omitempty" yaml:"fault"`
	Target  string        `json:"target,omitempty" yaml:"target"`               // with Fault; see Targets
	For     time.Duration `json:"for,omitzero,format:units" yaml:"for"`         // with Fault: when it is undone at the latest; default 30s, at most 10m
	Emptied time.Duration `json:"emptied,omitzero,format:units" yaml:"emptied"` // waits until no tunnel is at a real server that is drained, at most so long
	Undo    bool          `json:"undo,omitzero" yaml:"undo"`                    // undoes all faults that are in place
	Settle  time.Duration `json:"settle,omitzero,format:units" yaml:"settle"`   // waits until World's state is settled, at most so long
}

// A Kind is a kind of fault.
type Kind string

// The kinds of faults, and what each befalls.
const (
	TerminatorCrash Kind = "terminator-crash" // real server: the tunnel software is killed; undone: it is started again
	TerminatorHang  Kind = "terminator-hang"  // real server: it is stopped (SIGSTOP); undone: it goes on
	HostLoss        Kind = "host-loss"        // real server: its host neither receives nor sends anything
	LinkCut         Kind = "link-cut"         // real server: what comes to the VIPs is lost on the way, the agent goes on speaking
	Drain           Kind = "drain"            // real server: drained; undone: it takes tunnels again
	DirectorCrash   Kind = "director-crash"   // director: the daemon is killed; undone: it is started again
	DirectorHang    Kind = "director-hang"    // director: the daemon is stopped (SIGSTOP); undone: it goes on
	DirectorRestart Kind = "director-restart" // director: stopped as a service is, and started again
	Partition       Kind = "partition"        // director: nothing passes between it and the other directors
	VIPMove         Kind = "vip-move"         // director: leaves, so that others take its addresses; undone: it comes back
	DiskFull        Kind = "disk-full"        // director: the file system of its table is full
	NMSOutage       Kind = "nms-outage"       // director: its API takes no changes from the NMS
	NMSEmpty        Kind = "nms-empty"        // cluster: the NMS sends an empty table; it has to be refused
)

// Befalls tells what the target of a kind is: "real server", "director" or "cluster"; "" for what is no kind.
func (k Kind) Befalls() string { return kinds[k] }

var kinds = map[Kind]string{
	TerminatorCrash: "real server", TerminatorHang: "real server", HostLoss: "real server", LinkCut: "real server", Drain: "real server",
	DirectorCrash: "director", DirectorHang: "director", DirectorRestart: "director", Partition: "director", VIPMove: "director",
	DiskFull: "director", NMSOutage: "director", NMSEmpty: "cluster",
}

// Kinds are the names of all kinds of faults, sorted.
func Kinds() []string {
	var list []string
	for k := range kinds {
		list = append(list, string(k))
	}
	slices.Sort(list)
	return list
}

// Words for a Step's Target. Another word is a name. The same word is the same one all through a drill, but for Each.
const (
	Busiest  = "busiest"  // the real server with the most tunnels of the sample; default for real servers
	Owner    = "owner"    // the director that holds the first VIP; default for directors
	Assigner = "assigner" // the director that places groups
	Other    = "other"    // a director that is neither, if there is one; else not the owner
	Each     = "each"     // all directors, one after another, each until it is back and all is settled: director-restart alone
)

// Expect says what makes a drill pass. Durations and shares that are not said are not judged.
type Expect struct {
	Outage  Outage   `json:"outage,omitzero" yaml:"outage"`   // of the tunnels of the sample
	Lost    *float64 `json:"lost,omitempty" yaml:"lost"`      // percent of packets, at most
	Moved   string   `json:"moved" yaml:"moved"`              // MovedNone (default), MovedTarget or MovedAny
	Refused bool     `json:"refused,omitzero" yaml:"refused"` // the fault itself has to be refused: nms-empty
}

// What may move.
const (
	MovedNone   = "none"   // no tunnel
	MovedTarget = "target" // tunnels of the real servers that a fault befell, and all of the sample that were there have to
	MovedAny    = "any"
)

// An Outage is a bound, or a measurement, over the tunnels of the sample.
type Outage struct {
	Median time.Duration `json:"median,omitzero,format:units" yaml:"median"`
	P99    time.Duration `json:"p99,omitzero,format:units" yaml:"p99"`
	Worst  time.Duration `json:"worst,omitzero,format:units" yaml:"worst"`
}

// Abort says when a drill is given up at once. A zero value is no condition, but for Outage.
type Abort struct {
	Outage      time.Duration `json:"outage,format:units" yaml:"outage"`         // a tunnel of the sample is silent for so long; default 1m
	RealServers int           `json:"real_servers,omitzero" yaml:"real_servers"` // fewer are alive
	Directors   int           `json:"directors,omitzero" yaml:"directors"`       // fewer are ready
	Unplaced    int           `json:"unplaced,omitzero" yaml:"unplaced"`         // so many tunnels of the sample have no real server
}
