package host

import "fmt"

// A Severity says how much a Finding takes.
type Severity string

// Severities.
const (
	Breaks Severity = "breaks" // tunnels do not work
	Risks  Severity = "risks"  // tunnels may fail, or do in part
	Notes  Severity = "notes"  // worth knowing
)

// A Finding is something that is wrong with a host.
type Finding struct {
	ID       string   `json:"id"` // of this kind of finding, for good
	Instance string   `json:"real_server"`
	What     string   `json:"what"`   // the fact
	Causes   string   `json:"causes"` // what becomes of packets
	Remedy   string   `json:"remedy"` // a command, mostly
	Severity Severity `json:"severity"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s: %s; remedy: %s", f.Severity, f.Instance, f.What, f.Causes, f.Remedy)
}
