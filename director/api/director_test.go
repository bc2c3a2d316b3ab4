package api

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tunneldirector/affinity"
)

// A lab is a Director without disk and kernel: the real table, a placement that takes the first live real server, and
// events numbered by revision.
type lab struct {
	mu       sync.Mutex // guards what follows
	t        *affinity.Table
	snapshot *affinity.Table
	clock    affinity.Clock
	events   []Event
	poke     chan struct{} // closed and renewed with each event
	oldest   uint64        // events up to this one are not kept
	up       map[string]bool
	full     bool // the disk
	frozenBy string
	steps    int // calls of Do
	ready    bool
	fail     error               // of Do as a whole
	behind   bool                // the data plane
	stamped  chan struct{}       // a complete set begins; nil: nobody waits for it
	says     map[string]Evidence // by tunnel, before up
	seen     []SeenTunnel
	orders   []Order
	alter    func(*Status)
	audit    func(context.Context, func(Difference)) (AuditCounts, error)
	pairs    []Pair
}

func newLab() *lab {
	l := &lab{t: affinity.NewTable("store1", 1), poke: make(chan struct{}), up: map[string]bool{}, ready: true, oldest: 1}
	l.snapshot = l.t.Clone()
	return l
}

var reserved = []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("10.99.0.0/24")}

// furnished has a service, a tenant and three real servers, two alive.
func furnished() *lab {
	l := newLab()
	op := affinity.Actor{Name: "local", Any: true}
	must := func(ops ...affinity.Op) {
		results, err := l.Do(context.Background(), ops)
		if err != nil {
			panic(err)
		}
		for _, r := range results {
			if r.Err != nil {
				panic(r.Err)
			}
		}
	}
	esp, _ := affinity.ParseMatch("esp")
	ike, _ := affinity.ParseMatch("udp/500")
	natt, _ := affinity.ParseMatch("udp/4500")
	must(affinity.PutService{By: op, Service: &affinity.Service{Name: "ipsec", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}, Match: []affinity.Match{esp, ike, natt}}},
		affinity.PutTenant{By: op, Tenant: &affinity.Tenant{Covers: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("2001:db8:100::/40")}}})
	for i, name := range []string{"rs1", "rs2", "rs3"} {
		must(affinity.PutRealServer{By: op, RealServer: &affinity.RealServer{Name: name, Host: name, Weight: 100, Services: []string{"ipsec"},
			Addrs: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", 11+i))}}})
		if i < 2 {
			l.live(name, affinity.Index(i+1), true)
		}
	}
	return l
}

func (l *lab) live(name string, i affinity.Index, alive bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stamp := l.clock.Next(time.Now(), 0)
	l.t.SetLife(&affinity.Life{Header: affinity.Header{Stamp: stamp, Format: affinity.Format}, RealServer: name, Incarnation: 1, Index: i, Alive: alive, Since: stamp})
	l.commit()
	l.tell(Event{Kind: "real-server", Object: name})
}

func (l *lab) Table() *affinity.Table {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snapshot
}

func (l *lab) View() View { return (*labView)(l) }

func (l *lab) commit() {
	l.t.SetRevision(l.t.Revision() + 1)
	l.t.Take()
	l.snapshot = l.t.Clone()
}

func (l *lab) tell(e Event) {
	e.Seq, e.Time = l.t.Revision(), time.Now()
	l.events = append(l.events, e)
	close(l.poke)
	l.poke = make(chan struct{})
}

func (l *lab) Do(ctx context.Context, ops []affinity.Op) ([]affinity.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return nil, l.fail
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.steps++
	out := make([]affinity.Result, len(ops))
	var told []Event
	for i, op := range ops {
		if l.full {
			out[i].Err = affinity.Refuse(affinity.Unwritable, "the store", affinity.Fault{Problem: "the disk is full", Remedy: "make room"})
			continue
		}
		var r *affinity.Refusal
		if out[i], r = l.one(op); r != nil {
			out[i] = affinity.Result{Err: r}
			continue
		}
		if out[i].Changed {
			told = append(told, Event{Kind: "placed", Object: string(out[i].Group)})
		}
	}
	l.commit()
	for i := range out {
		out[i].Revision = l.t.Revision()
	}
	for _, e := range told {
		l.tell(e)
	}
	return out, nil
}

func (l *lab) header() affinity.Header {
	return affinity.Header{Stamp: l.clock.Next(time.Now(), 0), Origin: "lab", Format: affinity.Format}
}

func (l *lab) one(op affinity.Op) (affinity.Result, *affinity.Refusal) {
	switch op := op.(type) {
	case affinity.PutTunnel:
		return l.putTunnel(op)
	case affinity.DeleteTunnel:
		return l.deleteTunnel(op)
	case affinity.PutService:
		return l.putService(op)
	case affinity.PutTenant:
		if r := l.t.CheckTenant(op.Tenant, nil); r != nil {
			return affinity.Result{}, r
		}
		op.Tenant.Header = l.header()
		_, exists := l.t.Tenant(op.Tenant.Name)
		l.t.PutTenant(op.Tenant)
		return affinity.Result{Changed: true, Created: !exists}, nil
	case affinity.PutRealServer:
		if r := l.t.CheckRealServer(op.RealServer, reserved); r != nil {
			return affinity.Result{}, r
		}
		op.RealServer.Header = l.header()
		_, exists := l.t.RealServer(op.RealServer.Name)
		l.t.PutRealServer(op.RealServer)
		return affinity.Result{Changed: true, Created: !exists}, nil
	}
	return l.more(op)
}

func (l *lab) more(op affinity.Op) (affinity.Result, *affinity.Refusal) {
	missing := func(what, name string) *affinity.Refusal {
		return affinity.Refuse(affinity.NotFound, what+" "+name, affinity.Fault{Field: "name", Value: name, Problem: "does not exist"})
	}
	switch op := op.(type) {
	case affinity.DeleteService:
		s, ok := l.t.Service(op.Name)
		if !ok {
			return affinity.Result{}, missing("service", op.Name)
		}
		if r := l.t.CheckDeleteService(op.Name); r != nil {
			return affinity.Result{}, r
		}
		l.t.DeleteService(s)
	case affinity.DeleteTenant:
		n, ok := l.t.Tenant(op.Name)
		if !ok {
			return affinity.Result{}, missing("tenant", op.Name)
		}
		if r := l.t.CheckDeleteTenant(op.Name); r != nil {
			return affinity.Result{}, r
		}
		l.t.DeleteTenant(n)
	case affinity.DeleteRealServer:
		r, ok := l.t.RealServer(op.Name)
		if !ok {
			return affinity.Result{}, missing("real server", op.Name)
		}
		l.t.DeleteRealServer(r)
	case affinity.SetAdmin:
		old, ok := l.t.RealServer(op.Name)
		if !ok {
			return affinity.Result{}, missing("real server", op.Name)
		}
		r := *old
		r.Admin, r.Drain, r.Header = op.Admin, op.Drain, l.header()
		l.t.PutRealServer(&r)
	case affinity.SetFreeze:
		l.frozenBy = ""
		if op.On {
			l.frozenBy = op.By.Name
		}
	case affinity.Repin:
		return l.repin(op)
	default:
		panic(fmt.Sprintf("no such change: %T", op))
	}
	return affinity.Result{Changed: true}, nil
}

func (l *lab) repin(op affinity.Repin) (affinity.Result, *affinity.Refusal) {
	pin, ok := l.t.Pin(op.Group)
	if !ok {
		return affinity.Result{}, affinity.Refuse(affinity.NotFound, "group "+string(op.Group), affinity.Fault{Field: "group", Problem: "does not exist"})
	}
	life, ok := l.t.LifeOf(op.To)
	if !ok {
		return affinity.Result{}, affinity.Refuse(affinity.NotFound, "real server "+op.To, affinity.Fault{Field: "to", Value: op.To, Problem: "does not exist"})
	}
	if op.Idle && l.up[string(op.Group)] {
		return affinity.Result{}, affinity.Refuse(affinity.Conflict, "group "+string(op.Group), affinity.Fault{Problem: "is up"})
	}
	pin.Primary, pin.Header, pin.Why = life.Index, l.header(), op.Why
	l.t.SetPin(pin)
	return affinity.Result{Changed: true, Pin: pin, Group: op.Group}, nil
}

func (l *lab) putService(op affinity.PutService) (affinity.Result, *affinity.Refusal) {
	old, exists := l.t.Service(op.Service.Name)
	op.Service.Num = uint16(len(l.t.Services()) + 1)
	if exists {
		op.Service.Num = old.Num
	}
	if r := l.t.CheckService(op.Service, nil); r != nil {
		return affinity.Result{}, r
	}
	op.Service.Header = l.header()
	l.t.PutService(op.Service)
	return affinity.Result{Changed: true, Created: !exists}, nil
}

func (l *lab) putTunnel(op affinity.PutTunnel) (affinity.Result, *affinity.Refusal) {
	tun := *op.Tunnel
	old, exists := l.t.Tunnel(tun.ID)
	if op.Unless != nil {
		if (!exists && *op.Unless != 0) || exists && old.Header.Stamp != *op.Unless {
			return affinity.Result{}, affinity.Refuse(affinity.Stale, "tunnel "+tun.ID, affinity.Fault{Problem: "was changed meanwhile"})
		}
	}
	warnings, r := l.t.CheckTunnel(&tun, op.By, reserved, op.Transient)
	if r != nil {
		return affinity.Result{}, r
	}
	tun.Owner, tun.Header = op.By.Name, l.header()
	tun.Created = tun.Header.Stamp
	if exists {
		tun.Owner, tun.Created = old.Owner, old.Created
	}
	res := affinity.Result{Created: !exists, Group: tun.GroupID(), Warnings: warnings}
	if !exists || !affinity.SameIntent(old, &tun) {
		l.t.PutTunnel(&tun)
		res.Changed = true
	}
	pin, ok := l.t.Pin(res.Group)
	if !ok {
		pin = affinity.Pin{Header: tun.Header, Group: res.Group, Since: tun.Header.Stamp}
		for _, life := range l.t.Lives() {
			if life.Alive && pin.Primary == 0 {
				pin.Primary = life.Index
			} else if life.Alive && pin.Backup == 0 {
				pin.Backup = life.Index
			}
		}
		if pin.Primary == 0 {
			pin.Why, pin.Note = affinity.WhyUnplaced, "no real server is alive"
		}
		l.t.SetPin(pin)
	}
	res.Pin = pin
	return res, nil
}

func (l *lab) deleteTunnel(op affinity.DeleteTunnel) (affinity.Result, *affinity.Refusal) {
	old, exists := l.t.Tunnel(op.ID)
	if !exists {
		return affinity.Result{}, nil
	}
	if op.Unless != nil && *op.Unless != old.Header.Stamp {
		return affinity.Result{}, affinity.Refuse(affinity.Stale, "tunnel "+op.ID, affinity.Fault{Problem: "was changed meanwhile"})
	}
	if r := l.t.CheckDelete(op.ID, op.Generation, op.By); r != nil {
		return affinity.Result{}, r
	}
	old.Header = l.header()
	old.Header.Deleted = true
	old.GenClosed = op.Generation != 0
	l.t.DeleteTunnel(old)
	return affinity.Result{Changed: true, Group: old.GroupID()}, nil
}

func (l *lab) Stamp() affinity.Stamp {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stamped != nil {
		close(l.stamped)
		l.stamped = nil
	}
	return l.clock.Next(time.Now(), 0)
}

func (l *lab) Scratch(context.Context) (*affinity.Table, []netip.Prefix, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.t.Clone(), reserved, nil
}

// Try judges each by itself.
func (l *lab) Try(_ context.Context, ops []affinity.Op) ([]affinity.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]affinity.Result, len(ops))
	saved := l.t.Save()
	for i, op := range ops {
		var r *affinity.Refusal
		if out[i], r = l.one(op); r != nil {
			out[i].Err = r
		}
	}
	l.t = saved
	return out, nil
}

func (l *lab) RebalancePlan(context.Context, string) ([]affinity.Op, error) {
	var out []affinity.Op
	l.Table().Tunnels("", func(t *affinity.Tunnel) bool {
		out = append(out, affinity.Repin{Group: t.GroupID(), To: "rs2", Why: affinity.WhyRebalanced, Idle: true})
		return true
	})
	return out, nil
}

type labView lab

func (v *labView) Status(context.Context) (Status, error) {
	l := (*lab)(v)
	t := l.Table()
	l.mu.Lock()
	defer l.mu.Unlock()
	st := Status{Name: "lab", Version: "test", Store: t.StoreID(), Revision: t.Revision(), Ready: l.ready, Writable: !l.full, Frozen: l.frozenBy != "", FrozenBy: l.frozenBy,
		Started: time.Unix(1700000000, 0), Plane: PlaneStatus{Kind: "mem", InSync: true, Dropped: map[string]uint64{"unknown": 3}, Tables: map[string]Usage{"endpoints": {2, 10}}},
		Services: []ServiceStatus{{Name: "ipsec", Tunnels: 1, Traffic: Traffic{5, 600}, Dropped: map[string]uint64{"dead": 1}}}, Tunnels: TunnelCounts{Total: uint64(t.Len())}}
	if !l.ready {
		st.NotReady = []string{"the store is empty"}
	}
	for _, r := range t.RealServers() {
		st.RealServers = append(st.RealServers, RealServerStatus{Admin: "active", Name: r.Name, State: "alive", Weight: r.Weight, RTTMicros: 120})
	}
	if l.alter != nil {
		l.alter(&st)
	}
	return st, nil
}

func (v *labView) Seen(_ context.Context, states []string, f func(SeenTunnel) bool) error {
	for _, s := range v.seen {
		if slices.Contains(states, s.State) && !f(s) {
			return nil
		}
	}
	return nil
}

func (v *labView) Orders(realServer string) (out []Order) {
	for _, o := range v.orders {
		if realServer == "" || o.RealServer == realServer {
			out = append(out, o)
		}
	}
	return out
}

func (v *labView) Auditable() bool { return v.audit != nil }

func (v *labView) Audit(ctx context.Context, f func(Difference)) (AuditCounts, error) {
	return v.audit(ctx, f)
}

func (v *labView) Pairs() ([]Pair, bool) { return v.pairs, v.pairs != nil }

func (v *labView) Programmed() bool {
	l := (*lab)(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.behind
}

func (v *labView) Explain(_ context.Context, q Question) (Explanation, error) {
	return Explanation{Side: "tunnel", Action: "forward", RealServer: "rs1", Words: []string{"from " + q.Src + " to " + q.Dst}}, nil
}

func (v *labView) Up(_ context.Context, tunnels []*affinity.Tunnel) ([]Evidence, error) {
	l := (*lab)(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Evidence, len(tunnels))
	for i, t := range tunnels {
		if e, ok := l.says[t.ID]; ok {
			out[i] = e
		} else if l.up[t.ID] {
			out[i] = Evidence{Up: true, By: "packets", LastSeen: time.Now()}
		}
	}
	return out, nil
}

func (v *labView) Events(ctx context.Context, since uint64) ([]Event, error) {
	l := (*lab)(v)
	for {
		l.mu.Lock()
		poke, oldest, now := l.poke, l.oldest, l.t.Revision()
		i := slices.IndexFunc(l.events, func(e Event) bool { return e.Seq > since })
		var out []Event
		if i >= 0 {
			out = slices.Clone(l.events[i:])
		}
		l.mu.Unlock()
		switch {
		case since < oldest || since > now:
			return nil, ErrGone
		case len(out) > 0:
			return out, nil
		}
		select {
		case <-poke:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
