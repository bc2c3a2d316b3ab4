package realserver

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tunneldirector/director/agent"
)

// Status is what an agent shows of itself, as JSON.
type Status struct {
	Host        string             `json:"host"`
	Version     string             `json:"version"`
	Started     time.Time          `json:"started"`
	Unready     string             `json:"host_trouble,omitempty"`    // what is wrong with the host, as of the last time that it was tended
	Faults      []FaultStatus      `json:"faults_in_place,omitempty"` // made on purpose, for drills
	RealServers []RealServerStatus `json:"real_servers"`
	Directors   []StreamStatus     `json:"directors"`
}

// RealServerStatus is one real server of the host.
type RealServerStatus struct {
	Name       string       `json:"name"`
	Terminator string       `json:"terminator"`
	Method     string       `json:"method"`
	VIPs       []netip.Addr `json:"vips"`
	Health     string       `json:"health"`
	Cause      string       `json:"cause,omitempty"`
	Since      time.Time    `json:"since"` // of this health
	Closed     bool         `json:"closed"`
	Tunnels    uint32       `json:"tunnels"`
	Unreported int          `json:"unreported,omitempty"` // tunnels that the terminator names in a way that cannot be told
	Looked     *time.Time   `json:"looked,omitempty"`     // when the terminator answered last
	Load       uint32       `json:"load_permille"`
	Full       bool         `json:"full"`
	Parts      []LoadPart   `json:"load_parts,omitempty"`
	Adopt      Carried      `json:"adopt"`
	Release    Carried      `json:"release"`
	Failures   []Failure    `json:"failures,omitempty"` // the last ones
}

// LoadPart is one measure of load.
type LoadPart struct {
	Name     string `json:"name"`
	Permille uint32 `json:"permille"`
	Says     string `json:"says,omitempty"`
}

// Carried counts what became of orders since the agent started.
type Carried struct {
	Queued  int `json:"queued"`
	Trying  int `json:"trying"`
	Done    int `json:"done"`
	Waiting int `json:"waiting"`
	Failed  int `json:"failed"`
}

// A Failure is a tunnel that could not be adopted or released.
type Failure struct {
	Tunnel  string `json:"tunnel"`
	Outcome string `json:"outcome"`
	Why     string `json:"why"`
}

// StreamStatus is the stream to one director.
type StreamStatus struct {
	Address   string            `json:"address"`
	Connected bool              `json:"connected"`
	Since     time.Time         `json:"since"`
	Name      string            `json:"name,omitempty"`
	Why       string            `json:"why,omitempty"`     // not connected
	Refused   map[string]string `json:"refused,omitempty"` // real servers that this agent may not speak for
	Warnings  []string          `json:"warnings,omitempty"`
	Known     map[string]uint64 `json:"known,omitempty"`    // by real server: up to where its reports are known there
	Verdicts  []Verdict         `json:"verdicts,omitempty"` // by the real servers' names; none of a director that is older than this agent
}

// A Verdict is what a director makes of a real server. Times are by its clock.
type Verdict struct {
	RealServer string     `json:"real_server"`
	State      string     `json:"state"` // new, alive or dead
	Since      time.Time  `json:"since"` // of this state
	Why        string     `json:"why,omitempty"`
	Drained    *time.Time `json:"drained,omitempty"` // since when
	Shut       string     `json:"shut,omitempty"`    // why it gets no new tunnels, other than that it is drained
}

// TunnelStatus is an established tunnel.
type TunnelStatus struct {
	RealServer string         `json:"real_server"`
	Peer       string         `json:"peer"`
	Endpoint   string         `json:"endpoint"`
	Local      string         `json:"local,omitempty"`
	Subnets    []netip.Prefix `json:"subnets"`
	Since      time.Time      `json:"since"`
	Last       *time.Time     `json:"last,omitempty"`
	Rx         uint64         `json:"rx"`
	Tx         uint64         `json:"tx"`
}

// Status is the agent at a glance.
func (a *Agent) Status() Status {
	s := Status{Host: a.o.Host, Version: a.o.Version, Started: a.started, RealServers: []RealServerStatus{}, Directors: []StreamStatus{}}
	if why := a.unready.Load(); why != nil {
		s.Unready = *why
	}
	if a.o.Faults != nil {
		s.Faults = a.o.Faults.InPlace()
	}
	for _, in := range a.instances {
		s.RealServers = append(s.RealServers, in.show())
	}
	for _, x := range a.streams {
		x.mu.Lock()
		d := x.state
		d.Known = maps.Clone(d.Known)
		d.Verdicts = slices.Clone(d.Verdicts)
		x.mu.Unlock()
		s.Directors = append(s.Directors, d)
	}
	return s
}

func (in *instance) show() RealServerStatus {
	s := in.status()
	in.mu.Lock()
	looked, odd := in.looked, in.odd
	in.mu.Unlock()
	out := RealServerStatus{Name: in.Name, Terminator: in.Server.Terminator, Method: in.Method, VIPs: in.VIPs, Health: s.Health.String(), Cause: s.Cause, Since: s.Since,
		Closed: s.Closed, Tunnels: s.Tunnels, Unreported: odd, Load: s.Load.Permille, Full: s.Load.Full}
	if !looked.IsZero() {
		out.Looked = &looked
	}
	for _, p := range s.Load.Parts {
		out.Parts = append(out.Parts, LoadPart(p))
	}
	out.Adopt, out.Release, out.Failures = in.queue.show()
	return out
}

func (q *queue) show() (adopt, release Carried, failures []Failure) {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := func(k agent.OrderKind) *Carried {
		if k == agent.OrderAdopt {
			return &adopt
		}
		return &release
	}
	for k, done := range q.done {
		c := of(k)
		c.Done, c.Waiting, c.Failed = done[agent.OutcomeDone], done[agent.OutcomeWaiting], done[agent.OutcomeFailed]
	}
	for _, j := range q.jobs {
		if c := of(j.kind); j.outcome == agent.OutcomeTrying {
			c.Trying++
		} else {
			c.Queued++
		}
	}
	for _, f := range slices.Backward(q.failures) {
		failures = append(failures, Failure{f.ID, f.Outcome.String(), f.Why})
	}
	return adopt, release, failures
}

// Tunnels are what is established at a real server; "" means all. They are sorted by peer.
func (a *Agent) Tunnels(realServer string) []TunnelStatus {
	out := []TunnelStatus{}
	for _, in := range a.instances {
		if realServer != "" && in.Name != realServer {
			continue
		}
		list, _ := in.book.changed(0)
		slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.tunnel.Peer, b.tunnel.Peer) })
		for _, x := range list {
			t := x.tunnel
			s := TunnelStatus{RealServer: in.Name, Peer: t.Peer, Endpoint: endpointText(t.Endpoint), Subnets: t.Subnets, Since: t.Since, Rx: t.Rx, Tx: t.Tx}
			if t.Local.IsValid() {
				s.Local = t.Local.String()
			}
			if !t.Last.IsZero() {
				s.Last = &t.Last
			}
			out = append(out, s)
		}
	}
	return out
}

// endpointText is an address, with its port where it has one.
func endpointText(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// Handler serves Status at /status and Tunnels at /tunnels?real_server=NAME, for people on this host, and undoes all faults that are in
// place by a POST to /undo-faults, which answers with []UndoneFault.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.Status()) })
	mux.HandleFunc("GET /tunnels", func(w http.ResponseWriter, r *http.Request) { answer(w, a.Tunnels(r.URL.Query().Get("real_server"))) })
	mux.HandleFunc("POST /undo-faults", func(w http.ResponseWriter, r *http.Request) { answer(w, a.undoFaults(r.Context())) })
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who asked is gone
}
