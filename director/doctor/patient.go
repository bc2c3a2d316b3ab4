package doctor

import (
	"context"
	"io/fs"
	"time"

	"tunneldirector/affinity"
	"tunneldirector/director/api"
	"tunneldirector/director/observe"
	"tunneldirector/director/plane"
	"tunneldirector/director/probe"
)

// A Patient is a director as the checks see it. What is nil cannot be looked at, and is told so, but for Cluster, a director
// without one is alone, and Faults.
type Patient struct {
	Name       string
	Version    string
	Interfaces []plane.Interface
	HoldAll    bool      // every director holds every VIP
	Reserve    uint64    // bytes of disk that the store leaves free
	Began      time.Time // when this process began, by both clocks of the machine

	Table    func() *affinity.Table
	Status   func(ctx context.Context) (api.Status, error)
	Cluster  func(ctx context.Context) (api.ClusterStatus, error)
	Versions func(ctx context.Context) (map[string]string, error) // of other directors, by name; the error is of those that do not answer
	Reach    func() map[string]Reach                              // of real servers, by name
	Seen     func(ctx context.Context, states []string, f func(api.SeenTunnel) bool) error
	Audit    func(ctx context.Context, f func(api.Difference)) (api.AuditCounts, error)
	NextHops func(realServer string) []api.NextHop
	Probes   func() []probe.State
	Agents   func() []observe.Agent

	Faults        func() []api.FaultInPlace // made on purpose; nil: none
	PlaneWarnings func() []string
	Settings      func() ([]Setting, error) // of the kernel's, those that work against the director
	Certificates  func() []Certificate
	Files         fs.FS // of the machine, from its root: proc and sys
}

// Reach is which directors get a real server's answers.
type Reach struct{ By, NotBy []string }

// A Setting is one of the kernel's that works against the director.
type Setting struct{ What, Why, Mend string }

// A Certificate is one that others know this director by.
type Certificate struct {
	Of      string // what it is for
	Expires time.Time
	Alarm   string // what is wrong with it, and the remedy; "": nothing
	Err     error  // why it cannot be read
}
