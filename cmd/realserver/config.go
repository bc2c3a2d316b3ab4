package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"tunneldirector/cluster/ca"
	"tunneldirector/director/agent"
	"tunneldirector/director/config/tree"
)

// A Config is a host's file.
type Config struct {
	Host        string           `yaml:"host"`
	Directors   []netip.AddrPort `yaml:"directors"`
	TLS         TLS              `yaml:"tls"`
	StateDir    string           `yaml:"state_dir"`
	Socket      string           `yaml:"socket"`
	ProbePort   uint16           `yaml:"probe_port"`
	PrepareHost bool             `yaml:"prepare_host"`
	Look        time.Duration    `yaml:"look"`
	Adopt       Adopt            `yaml:"adopt"`
	RealServers []RealServer     `yaml:"real_servers"`
	Log         Log              `yaml:"log"`
	Drill       Drill            `yaml:"drill"`
}

// TLS names the files by which the agent proves who it is and knows directors.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	CA   string `yaml:"ca"`
}

// Adopt is how fast orders of directors are carried out.
type Adopt struct {
	Rate    perSecond `yaml:"rate"`
	Burst   int       `yaml:"burst"`
	Retries int       `yaml:"retries"`
}

// A RealServer is one terminator, and how its host is prepared.
type RealServer struct {
	Name       string           `yaml:"name"`
	VIPs       []netip.Addr     `yaml:"vips"`
	Method     string           `yaml:"method"`
	Interface  string           `yaml:"interface"`
	Namespace  string           `yaml:"namespace"`
	Own        []netip.Addr     `yaml:"own"`
	Holder     string           `yaml:"holder"`
	Devices    []string         `yaml:"devices"`
	Via        []netip.Addr     `yaml:"via"`
	Mark       uint32           `yaml:"mark"`
	ShareL2    bool             `yaml:"share_l2"`
	MTU        int              `yaml:"mtu"`
	MSS        int              `yaml:"mss"`
	Sites      []netip.Addr     `yaml:"sites"`
	Protocols  []string         `yaml:"protocols"`
	Capacity   uint32           `yaml:"capacity"`
	CPUCeiling percent          `yaml:"cpu_ceiling"`
	Room       Room             `yaml:"room"`
	Terminator TerminatorConfig `yaml:"terminator"`
}

// Room is what the terminator's own sockets and devices are given, if they have less.
type Room struct {
	ReceiveBuffer size `yaml:"receive_buffer"`
	Queue         int  `yaml:"queue"`
}

// Log says what is logged, to standard error.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"`
}

// Drill says whether directors may have this agent make faults, to rehearse failures.
type Drill struct {
	Allow bool                `yaml:"allow"`
	Start map[string][]string `yaml:"start"` // by real server: program and arguments that start its terminator again
}

// Default is what a file need not say.
func Default() Config {
	return Config{
		TLS:      TLS{Cert: "/etc/tunneldirector/agent.crt", Key: "/etc/tunneldirector/agent.key", CA: "/etc/tunneldirector/ca.crt"},
		StateDir: "/var/lib/tunneldirector-agent", Socket: defaultSocket, ProbePort: agent.DefaultProbe, Look: 5 * time.Second,
		Adopt: Adopt{Rate: 100, Burst: 100, Retries: 2}, Log: Log{Level: slog.LevelInfo, Format: "text"},
	}
}

const (
	defaultSocket  = "/run/tunneldirector/realserver.sock"
	defaultCeiling = 80            // percent of a core
	noCeiling      = math.MinInt32 // no percentage that anybody writes
)

// Parse reads a host's file. The error is tree.Faults: all that is wrong with it.
func Parse(data []byte) (Config, error) {
	c := Default()
	var r reader
	r.document(data, &c)
	if !r.said("") || r.Lines["real_servers"] > 0 {
		c.check(&r)
	}
	if err := r.err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// ParsePlaces reads no more of a host's file than state_dir and socket, and heeds no fault in what stands beside them.
func ParsePlaces(data []byte) (Config, error) {
	c := Default()
	var r reader
	r.document(data, &c)
	r.Faults = slices.DeleteFunc(r.Faults, func(f tree.Fault) bool { return f.Path != "" && f.Path != "state_dir" && f.Path != "socket" })
	c.checkPlaces(&r)
	if err := r.err(); err != nil {
		return Config{}, err
	}
	return Config{StateDir: c.StateDir, Socket: c.Socket}, nil
}

// readBy reads a host's file from disk, by Parse or another one.
func readBy(parse func([]byte) (Config, error), path string) (Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("read configuration: %w\nWrite the host's file there, or say where it is: --config FILE", err)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	return c, nil
}

// check holds the settings against each other.
func (c *Config) check(r *reader) {
	switch err := (ca.Identity{Cluster: "any", Role: ca.RoleAgent, Name: c.Host}).Validate(); {
	case r.said("host"):
	case c.Host == "":
		r.FaultAt("host", "is missing; it is the name in this host's certificate, and in its real servers' records")
	case err != nil:
		r.FaultAt("host", "%q is not a host's name: %v", c.Host, err)
	}
	if len(c.Directors) == 0 && !r.said("directors") {
		r.FaultAt("directors", "are missing; name each director's address and port")
	}
	seen := map[netip.AddrPort]bool{}
	for i, d := range c.Directors {
		if seen[d] && d.IsValid() {
			r.FaultAt(fmt.Sprintf("directors[%d]", i), "%s stands twice", d)
		}
		seen[d] = true
	}
	absolute(r, "tls.cert", c.TLS.Cert)
	absolute(r, "tls.key", c.TLS.Key)
	absolute(r, "tls.ca", c.TLS.CA)
	c.checkPlaces(r)
	within(r, "look", c.Look, time.Second, 10*time.Second)
	within(r, "adopt.rate", float64(c.Adopt.Rate), 0.1, 10_000)
	within(r, "adopt.burst", c.Adopt.Burst, 1, 10_000)
	within(r, "adopt.retries", c.Adopt.Retries, 0, 100)
	if c.Log.Format != "text" && c.Log.Format != "json" {
		r.FaultAt("log.format", "%q is not one of text, json", c.Log.Format)
	}
	c.checkServers(r)
	c.checkDrill(r)
}

// checkPlaces holds those where the agent keeps things, and is asked.
func (c *Config) checkPlaces(r *reader) {
	absolute(r, "state_dir", c.StateDir)
	absolute(r, "socket", c.Socket)
	if len(c.Socket) > 107 {
		r.FaultAt("socket", "has %d bytes; the path of a unix socket has at most 107", len(c.Socket))
	}
}

func absolute(r *reader, path, file string) {
	if !filepath.IsAbs(file) && !r.said(path) {
		r.FaultAt(path, "%q is not an absolute path", file)
	}
}

func (c *Config) checkDrill(r *reader) {
	for _, name := range slices.Sorted(maps.Keys(c.Drill.Start)) {
		path, argv := "drill.start."+name, c.Drill.Start[name]
		switch {
		case r.said(path):
		case !slices.ContainsFunc(c.RealServers, func(s RealServer) bool { return s.Name == name }):
			r.FaultAt(path, "is of no real server of this file")
		case len(argv) == 0:
			r.FaultAt(path, "is empty; name a program and its arguments, such as [/usr/bin/systemctl, start, strongswan]")
		case !filepath.IsAbs(argv[0]):
			r.FaultAt(path, "%q is not the absolute path of a program", argv[0])
		}
	}
}

func (c *Config) checkServers(r *reader) {
	switch {
	case r.said("real_servers"):
	case len(c.RealServers) == 0:
		r.FaultAt("real_servers", "are missing")
	case len(c.RealServers) > agent.MaxServers:
		r.FaultAt("real_servers", "are %d; one agent looks after %d at most", len(c.RealServers), agent.MaxServers)
	}
	for i := range c.RealServers {
		s := &c.RealServers[i]
		path := fmt.Sprintf("real_servers[%d]", i)
		if r.empty(path) {
			continue
		}
		s.check(r, path)
		for j := range i {
			c.checkPair(r, path, &c.RealServers[j], s)
		}
	}
}

// checkPair holds two real servers against each other.
func (c *Config) checkPair(r *reader, path string, a, b *RealServer) {
	if a.Name == b.Name && b.Name != "" {
		r.FaultAt(path+".name", "%q stands twice", b.Name)
	}
	if a.Namespace != b.Namespace || a.Method == b.Method {
		return
	}
	for _, vip := range b.VIPs {
		for _, other := range a.VIPs {
			if vip == other && vip.IsValid() {
				r.FaultAt(path+".method", "is %s, and %s has VIP %s by %s in the same network namespace; one way leads to an address", b.Method, a.Name, vip, a.Method)
			}
		}
	}
}

func (s *RealServer) check(r *reader, path string) {
	if s.Method == "" && !r.said(path+".method") {
		s.Method = "dr"
	}
	if s.CPUCeiling == 0 && !r.said(path+".cpu_ceiling") {
		s.CPUCeiling = defaultCeiling
	}
	if s.Method != "dr" && s.Method != "tunnel" && !r.said(path+".method") {
		r.FaultAt(path+".method", "%q is not one of dr, tunnel", s.Method)
	}
	for _, need := range []struct {
		key  string
		none bool
	}{{"name", s.Name == ""}, {"vips", len(s.VIPs) == 0}, {"interface", s.Interface == ""}} {
		if at := path + "." + need.key; need.none && !r.said(at) {
			r.FaultAt(at, "is missing")
		}
	}
	if s.CPUCeiling != noCeiling {
		within(r, path+".cpu_ceiling", int(s.CPUCeiling), 1, 100)
	}
	if s.Room.ReceiveBuffer != 0 {
		within(r, path+".room.receive_buffer", uint64(s.Room.ReceiveBuffer), 64<<10, 1<<30)
	}
	if s.Room.Queue != 0 {
		within(r, path+".room.queue", s.Room.Queue, 100, 1_000_000)
	}
	s.Terminator.check(r, path+".terminator")
}

// within tells if a value is out of its range.
func within[T int | uint64 | float64 | time.Duration](r *reader, path string, v, low, high T) {
	if (v < low || v > high) && !r.said(path) {
		r.FaultAt(path, "%v is not between %v and %v", v, low, high)
	}
}

// perSecond is a rate: 20/s.
type perSecond float64

func (p *perSecond) UnmarshalText(b []byte) error {
	f, err := strconv.ParseFloat(strings.TrimSuffix(string(b), "/s"), 64)
	if err != nil || !strings.HasSuffix(string(b), "/s") || f != f {
		return errors.New("a rate; write 20/s")
	}
	*p = perSecond(f)
	return nil
}

// percent is a share: 80%; or none, which is noCeiling.
type percent int

func (p *percent) UnmarshalText(b []byte) error {
	if string(b) == "none" {
		*p = noCeiling
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSuffix(string(b), "%"))
	if err != nil || !strings.HasSuffix(string(b), "%") {
		return errors.New("a share; write 80%, or none")
	}
	*p = percent(n)
	return nil
}

// size is a number of bytes: 4MiB.
type size uint64

func (s *size) UnmarshalText(b []byte) error {
	n, err := humanize.ParseBytes(string(b))
	if err != nil || !strings.ContainsAny(string(b), "bB") {
		return errors.New("a size; write a number and a unit: 4MiB")
	}
	*s = size(n)
	return nil
}
