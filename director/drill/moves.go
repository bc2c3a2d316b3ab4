package drill

import (
	"fmt"
	"slices"
	"time"
)

// moves says where tunnels were and are, and returns those that had to move and did not.
//
// From a real server that a fault cut off, a tunnel goes to its backup and nowhere else, if that was alive and not cut off itself.
// From one that is drained it is placed anew.
func (r *run) moves(res *Result, after State) (stayed []string) {
	struck, alive, at := r.befallen(), map[string]bool{}, after.places()
	for _, rs := range r.before.RealServers {
		alive[rs.Name] = rs.Alive
	}
	for i, t := range r.plan.Sample {
		o := &res.Tunnels[i]
		o.From, o.To = t.RealServer, at[t.ID]
		o.Moved = o.From != o.To
		cut, hit := struck[t.RealServer]
		_, backupHit := struck[t.Backup]
		toBackup := cut && alive[t.Backup] && !backupHit
		o.Wrong = o.Moved && (!hit || o.To == "" || toBackup && o.To != t.Backup)
		if o.Moved {
			res.Moved++
		}
		if o.Wrong {
			res.Wrongly++
		}
		if hit && !o.Moved {
			stayed = append(stayed, t.ID)
		}
	}
	return stayed
}

// movedFailures are the expectations of where tunnels are that do not hold.
func movedFailures(res *Result, stayed []string, events []Event, sample []Tunnel) []Failure {
	var moved, wrong []string
	for _, o := range res.Tunnels {
		if o.Moved {
			moved = append(moved, o.Name)
		}
		if o.Wrong {
			wrong = append(wrong, o.Name)
		}
	}
	var list []Failure
	fault := func(tunnels []string, format string) {
		if len(tunnels) == 0 {
			return
		}
		i := slices.IndexFunc(res.Tunnels, func(o Outcome) bool { return o.Name == tunnels[0] })
		o := res.Tunnels[i]
		what := fmt.Sprintf(format, some(len(tunnels), "tunnel")) + ": " + names(tunnels)
		if o.Moved {
			what += fmt.Sprintf("; %s went from %s to %q", o.Name, o.From, o.To)
		}
		list = append(list, Failure{What: what, Tunnel: o.Name, At: movedAt(sample[i], events)})
	}
	switch res.Drill.Expect.Moved {
	case MovedNone:
		fault(moved, "%s moved, and none was to")
	case MovedTarget:
		fault(wrong, "%s moved that must not, or not to the backup")
		fault(stayed, "%s stayed at a real server that a fault befell")
	}
	return list
}

// movedAt is when a director recorded that a tunnel's group moved; nil if none did.
func movedAt(t Tunnel, events []Event) *time.Time {
	for _, e := range events {
		if (e.Kind == "moved" || e.Kind == "unplaced") && (e.Object == t.Group || e.Object == t.ID) {
			return &e.Time
		}
	}
	return nil
}
