package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"
)

// A Config is what is local to one director.
type Config struct {
	Name       string // of this director, unique among its peers
	DataDir    string
	Plane      string // one of the planes below
	Interfaces []Interface
	API        API
	Metrics    Metrics
	Agents     Agents
	Cluster    *Cluster // nil: this director is alone
	Probe      Probe
	Limits     Limits
	IPVS       IPVS
	Store      Store
	Journal    Journal
	BlackBox   BlackBox
	Drill      Drill
	Log        Log
}

// The planes.
const (
	PlaneAuto   = "auto" // ipvs where the kernel has it and the table can be done by it, else xdp
	PlaneIPVS   = "ipvs"
	PlaneXDP    = "xdp"
	PlaneShadow = "shadow" // forwards nothing: the table is compared with what another program has put into IPVS
	PlaneMem    = "mem"    // forwards nothing: for trials of the API
)

// Forwards tells whether a plane forwards packets, and so needs interfaces and rights.
func Forwards(plane string) bool { return plane != PlaneShadow && plane != PlaneMem }

// The roles of interfaces.
const (
	RoleTunnel      = "tunnel"      // sites dial VIPs through it
	RoleSubnet      = "subnet"      // target hosts send to subnets through it
	RoleRealServers = "realservers" // real servers are reached through it
)

// An Interface is a network interface that the data plane is to use.
type Interface struct {
	Name   string
	Roles  []string
	Tenant string            // of untagged packets on the subnet side; "" is the default tenant
	VLANs  map[uint16]string // 802.1Q tag -> tenant, on the subnet side
}

// API says where the HTTP API listens and who may call it.
type API struct {
	Socket     Socket
	Listen     []string // address:port
	TLS        TLS
	TokensFile string // "": no tokens; then there are only loopback addresses and the unix socket
}

// A Socket is a unix socket. Who may open it is an operator.
type Socket struct {
	Path  string // "": none
	Mode  uint32 // permission bits
	Group string // "": of the process
}

// TLS names the files of a certificate chain and its key; both or neither.
type TLS struct{ Cert, Key string }

// Metrics is a listener of its own for /metrics, without tokens.
type Metrics struct{ Listen string } // address:port; "": none

// Agents says where the agents on real servers are listened for: nowhere, or with all of TLS.
type Agents struct {
	Listen []string // address:port
	TLS    MutualTLS
}

// MutualTLS names the files by which a director proves who it is and knows the others: its certificate and key, and the
// certificate of the cluster's authority; all or none.
type MutualTLS struct{ Cert, Key, CA string }

// A Probe says how real servers are measured.
type Probe struct {
	Interval   time.Duration // between two probes of a real server
	Timeout    time.Duration // after which one is lost
	DeadAfter  int           // probes lost in a row
	AliveAfter int           // probes answered in a row, for one that returns
}

// Verdict is the longest time from a real server's death to the verdict.
func (p Probe) Verdict() time.Duration { return time.Duration(p.DeadAfter)*p.Interval + p.Timeout }

// Limits protect the network from its management, and size the kernel's tables.
type Limits struct {
	MaxDelete  int    // percent of an owner's tunnels that complete sets may delete in 24 h
	MaxPins    uint32 // endpoints at VIPs: entries of the tunnel side's table
	MaxSubnets uint32 // entries of the subnet side's table
}

// IPVS is about plane ipvs.
type IPVS struct {
	// Pairs4 and Pairs6 are where it takes addresses from that stand for pairs of real servers: nobody else's.
	Pairs4, Pairs6 netip.Prefix
	Timeout        time.Duration // after which the kernel forgets a quiet tunnel that no daemon refreshes
	SetSysctls     bool          // set what it needs of the kernel's settings; else it is only explained
}

// Store is about the table on disk.
type Store struct {
	Reserve uint64 // bytes of free disk below which writes are refused
}

// Log says what is logged, to standard error.
type Log struct {
	Level  slog.Level
	Format string // text or json
}

// Default is what a file need not say.
func Default() Config {
	return Config{
		DataDir:  "/var/lib/tunneldirector",
		Plane:    PlaneAuto,
		API:      API{Socket: Socket{Path: "/run/tunneldirector/api.sock", Mode: 0o660}},
		Probe:    Probe{Interval: 150 * time.Millisecond, Timeout: 120 * time.Millisecond, DeadAfter: 4, AliveAfter: 5},
		Limits:   Limits{MaxDelete: 10, MaxPins: 1 << 20, MaxSubnets: 1 << 20},
		IPVS:     IPVS{Pairs4: netip.MustParsePrefix("240.0.0.0/16"), Pairs6: netip.MustParsePrefix("fd7d:6469:7265:6374::/64"), Timeout: 24 * time.Hour},
		Store:    Store{Reserve: 256 << 20},
		Journal:  Journal{MaxSize: 256 << 20, MaxAge: 90 * 24 * time.Hour},
		BlackBox: BlackBox{MaxSize: 64 << 20},
		Log:      Log{Level: slog.LevelInfo, Format: "text"},
	}
}

// Parse reads a node's file. The error is Faults: all that is wrong with it.
func Parse(data []byte) (Config, error) {
	c := Default()
	var r reader
	docs := r.documents(data)
	switch {
	case len(docs) > 1:
		docs[1].fault("is a second document; a node's file has one")
	case len(docs) == 1:
		docs[0].config(&c)
	case len(r.Faults) == 0:
		r.Fault("", nil, "is empty; it needs at least name and interfaces")
	}
	if !slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Path == "" }) {
		r.check(&c)
	}
	if err := r.Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Read reads a node's file from disk.
func Read(path string) (Config, error) {
	data, err := readFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// readFile reads no more than maxFile and a little, so that a wrong path (a device, a disk image) does no harm.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	return data, errors.Join(err, f.Close())
}
