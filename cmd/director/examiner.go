package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
	loop "tunneldirector/director"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
	"tunneldirector/director/doctor"
)

// An examiner looks for what is wrong with this director, and asks the others for the same. It makes an api.Examiner.
type examiner struct {
	d       *loop.Director
	cluster api.Cluster // nil: alone
	j       *joined     // nil: alone
	patient doctor.Patient
	journal api.Journal // nil: no events are kept
	faults  *faults     // nil: none are made
}

func newExaminer(cfg config.Config, d *loop.Director, k *kernel, a agents, peers *several, events api.Journal, f *faults) *examiner {
	x := &examiner{d: d, journal: events, faults: f}
	v := d.View()
	x.patient = doctor.Patient{Name: cfg.Name, Version: console.Version(), Interfaces: planeInterfaces(cfg.Interfaces), Reserve: cfg.Store.Reserve, Began: time.Now(),
		Table: d.Table, Status: v.Status, NextHops: d.NextHops, PlaneWarnings: k.warns, Probes: k.probes, Settings: k.settings, Files: os.DirFS("/")}
	if o, ok := v.(api.Observed); ok {
		x.patient.Seen = o.Seen
	}
	if o, ok := v.(api.Auditor); ok && o.Auditable() {
		x.patient.Audit = o.Audit
	}
	if a.book != nil {
		x.patient.Agents = a.book.Agents
	}
	if certificates := certificatesOf(cfg, a, peers); len(certificates) > 0 {
		x.patient.Certificates = func() (out []doctor.Certificate) {
			for _, c := range certificates {
				out = append(out, c())
			}
			return out
		}
	}
	if f != nil {
		x.patient.Faults = f.InPlace
	}
	if peers != nil {
		x.cluster, x.j = peers, peers.j
		x.patient.Cluster, x.patient.Versions, x.patient.Reach = peers.remaining, x.versions, x.reach
		x.patient.HoldAll = cfg.Cluster.AddressesAll
	}
	return x
}

// certificatesOf are those that others know the director by, each as it is when it is asked for.
func certificatesOf(cfg config.Config, a agents, peers *several) (out []func() doctor.Certificate) {
	credential := func(of string, c *ca.Credential) {
		out = append(out, func() doctor.Certificate {
			return doctor.Certificate{Of: of, Expires: c.Expires(), Alarm: c.Alarm()}
		})
	}
	if a.own != nil {
		credential("towards agents", a.own)
	}
	if peers != nil {
		credential("towards directors", peers.j.own)
	}
	if path := cfg.API.TLS.Cert; path != "" {
		out = append(out, func() doctor.Certificate {
			c := doctor.Certificate{Of: "of the API (" + path + ")"}
			c.Expires, c.Err = expiry(path)
			return c
		})
	}
	return out
}

// Examine looks here, and with all at every live director.
func (x *examiner) Examine(ctx context.Context, all bool) (api.DoctorReports, error) {
	var out api.DoctorReports
	others := make(chan asked, 1)
	if all && x.j != nil {
		go func() { others <- x.j.askEvery(ctx, nodeQuestion{Doctor: true}, examineWithin) }()
	} else {
		others <- asked{}
	}
	own, err := doctor.Examine(ctx, &x.patient)
	if err != nil {
		return out, err
	}
	out.Reports = append(out.Reports, own)
	o := <-others
	out.Silent = o.silent
	for _, a := range o.answers {
		if a.Doctor == nil {
			out.Silent = append(out.Silent, api.Silent{Director: a.from, Why: "is of an older version that examines nothing"})
			continue
		}
		out.Reports = append(out.Reports, *a.Doctor)
	}
	return out, nil
}

// ExplainAll tells what every live director does with a packet.
func (x *examiner) ExplainAll(ctx context.Context, q api.Question) (api.Explanations, error) {
	own, err := x.d.View().Explain(ctx, q)
	if err != nil {
		return api.Explanations{}, err
	}
	out := api.Explanations{Explanations: []api.DirectorExplanation{{Director: x.patient.Name, Explanation: own}}, Agree: true}
	if x.j == nil {
		return out, nil
	}
	o := x.j.askEvery(ctx, nodeQuestion{Explain: &q}, explainWithin)
	out.Silent = o.silent
	for _, a := range o.answers {
		switch {
		case a.Why != "":
			out.Silent = append(out.Silent, api.Silent{Director: a.from, Why: a.Why})
		case a.Explanation == nil:
			out.Silent = append(out.Silent, api.Silent{Director: a.from, Why: "is of an older version that explains to nobody"})
		default:
			out.Explanations = append(out.Explanations, api.DirectorExplanation{Director: a.from, Explanation: *a.Explanation})
			out.Agree = out.Agree && a.Explanation.RealServer == own.RealServer && a.Explanation.Action == own.Action
		}
	}
	return out, nil
}

// eventsWithin is how long other directors may take to read what they have on disk.
const eventsWithin = 5 * time.Second

// AllEvents are those of every live director, in the order of time.
func (x *examiner) AllEvents(ctx context.Context, since time.Time) (api.AllEvents, error) {
	own, err := x.events(ctx, since)
	if err != nil {
		return api.AllEvents{}, err
	}
	var out api.AllEvents
	add := func(director string, list []api.Recorded) {
		for _, e := range list {
			out.Events = append(out.Events, api.DirectorEvent{Director: director, Event: e})
		}
	}
	add(x.patient.Name, own)
	if x.j != nil {
		o := x.j.askEvery(ctx, nodeQuestion{Events: &since}, eventsWithin)
		out.Silent = o.silent
		for _, a := range o.answers {
			add(a.from, a.Events)
		}
	}
	slices.SortStableFunc(out.Events, func(a, b api.DirectorEvent) int { return a.Event.Time.Compare(b.Event.Time) })
	return out, nil
}

// events are what this director has on disk, but for pushes.
func (x *examiner) events(ctx context.Context, since time.Time) ([]api.Recorded, error) {
	if x.journal == nil {
		return nil, nil
	}
	kinds := slices.DeleteFunc(api.EventKinds(), func(k string) bool { return k == "tunnel-put" || k == "tunnel-deleted" })
	l, err := x.journal.Read(ctx, api.EventQuery{Since: since, Kinds: kinds, Limit: api.MaxAllEvents})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return l.Events, nil
}

// answer answers another director's question; the error is of the whole.
func (x *examiner) answer(ctx context.Context, q nodeQuestion, a *nodeAnswer) error {
	a.Version = console.Version()
	if q.Explain != nil {
		e, err := x.d.View().Explain(ctx, *q.Explain)
		if err != nil {
			a.Why = err.Error()
			return nil
		}
		a.Explanation = &e
	}
	if q.Events != nil {
		var err error
		if a.Events, err = x.events(ctx, *q.Events); err != nil {
			return err
		}
	}
	if q.Fault != nil && x.faults != nil {
		a.Fault = x.faults.answer(ctx, q.Fault)
	}
	if q.Doctor {
		r, err := doctor.Examine(ctx, &x.patient)
		if err != nil {
			return err
		}
		a.Doctor = &r
	}
	return nil
}

// versions are those of the other live directors.
func (x *examiner) versions(ctx context.Context) (map[string]string, error) {
	o := x.j.askEvery(ctx, nodeQuestion{Version: true}, explainWithin)
	out := map[string]string{}
	for _, a := range o.answers {
		out[a.from] = a.Version
	}
	var errs []error
	for _, s := range o.silent {
		errs = append(errs, fmt.Errorf("director %s: %s", s.Director, s.Why))
	}
	return out, errors.Join(errs...)
}

// reach is which live directors get which real server's answers, by their beats.
func (x *examiner) reach() map[string]doctor.Reach {
	v := x.j.View()
	out := map[string]doctor.Reach{}
	for _, rs := range x.d.Table().RealServers() {
		var r doctor.Reach
		note := func(name string, reaches, known bool) {
			switch {
			case known && reaches:
				r.By = append(r.By, name)
			case known:
				r.NotBy = append(r.NotBy, name)
			}
		}
		reaches, known := v.Beat.Reaches(rs.Name)
		note(v.Self.Name, reaches, known)
		for _, p := range v.Peers {
			if p.Alive && !p.Beat.Hung {
				reaches, known = p.Beat.Reaches(rs.Name)
				note(p.Member.Name, reaches, known)
			}
		}
		out[rs.Name] = r
	}
	return out
}

// How long another director may take.
const (
	explainWithin = 5 * time.Second
	examineWithin = 20 * time.Second
)

// asked is what other directors answered.
type asked struct {
	answers []answerOf
	silent  []api.Silent
}

type answerOf struct {
	from string
	nodeAnswer
}

// askEvery asks all other live directors' daemons at once.
func (j *joined) askEvery(ctx context.Context, q nodeQuestion, within time.Duration) (out asked) {
	b, err := json.Marshal(q)
	if err != nil {
		return asked{silent: []api.Silent{{Why: err.Error()}}}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var mu sync.Mutex // guards out
	var wg sync.WaitGroup
	for _, p := range j.beater.View().Peers {
		name := p.Member.Name
		if !p.Alive {
			continue
		}
		wg.Go(func() {
			a := answerOf{from: name}
			reply, err := j.replica.Ask(ctx, name, slices.Concat([]byte{askNode}, b))
			if err == nil {
				err = json.Unmarshal(reply, &a.nodeAnswer)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.silent = append(out.silent, api.Silent{Director: name, Why: err.Error()})
				return
			}
			out.answers = append(out.answers, a)
		})
	}
	wg.Wait()
	slices.SortFunc(out.answers, func(a, b answerOf) int { return cmp.Compare(a.from, b.from) })
	slices.SortFunc(out.silent, func(a, b api.Silent) int { return cmp.Compare(a.Director, b.Director) })
	return out
}

// nextHop is how the kernel reaches a real server's address, and who answered for it on the wire.
func (k *kernel) nextHop(realServer string, a netip.Addr) api.NextHop {
	h := doctor.Way(a)
	if k.probes == nil {
		return h
	}
	for _, s := range k.probes() {
		for _, hop := range s.Hops {
			if s.Name == realServer && hop.Addr.IsValid() && hop.Addr.String() == h.Via {
				h.WireMAC = wordOf(hop.MAC)
			}
		}
	}
	return h
}
