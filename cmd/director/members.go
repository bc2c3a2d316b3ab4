package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tunneldirector/cluster"
	"tunneldirector/cluster/gossip"
	"tunneldirector/cluster/replica"
	loop "tunneldirector/director"
	"tunneldirector/director/api"
)

// several is a director with others, as the API knows it.
type several struct {
	*loop.Director
	j *joined
}

// Members is who is there, and how each stands.
func (s several) Members(context.Context) (api.ClusterStatus, error) {
	out := s.j.standing()
	v := s.j.beater.View()
	out.Addresses = s.owners(v)
	out.Problems = append(s.j.problems(&out), s.strangers()...)
	return out, nil
}

// remaining is Members without those that left in good order: with them nothing is wrong.
func (s several) remaining(ctx context.Context) (api.ClusterStatus, error) {
	st, err := s.Members(ctx)
	st.Members = slices.DeleteFunc(st.Members, func(m api.MemberStatus) bool { return m.State == api.MemberLeft })
	return st, err
}

// standing is who is there, and how each stands, without addresses and problems.
func (j *joined) standing() api.ClusterStatus {
	v := j.beater.View()
	out := api.ClusterStatus{Name: j.own.Identity().Cluster, Self: j.cfg.Name, Assigner: v.Assigner()}
	out.AssignerWhy = "the live and ready director of the lowest rank"
	if out.Assigner == "" {
		out.AssignerWhy = "no director is ready"
	}
	self := memberStatus(v.Self, v.Beat)
	self.Self, self.Gossip = true, j.cfg.Cluster.Gossip.String()
	if j.left.Load() {
		self.State = api.MemberLeaving
	}
	out.Members = append(out.Members, self)
	kept, shown := j.memory.all(), map[string]bool{v.Self.Name: true}
	for _, p := range v.Peers {
		r, known := kept[p.Member.Name]
		if !known && !p.Alive {
			continue // it was forgotten
		}
		shown[p.Member.Name] = true
		m := j.peerStatus(p)
		if r.Gossip.IsValid() {
			m.Gossip = r.Gossip.String()
		}
		if m.State == api.MemberDead && !r.Left.IsZero() {
			m.State, m.Since = api.MemberLeft, r.Left
		}
		out.Members = append(out.Members, m)
	}
	for name, r := range kept {
		if shown[name] {
			continue
		}
		m := api.MemberStatus{Name: name, Rank: r.Rank, Role: string(r.Role), State: api.MemberDead, Since: r.Seen, Store: r.Store}
		if !r.Left.IsZero() {
			m.State, m.Since = api.MemberLeft, r.Left
		}
		out.Members = append(out.Members, m)
	}
	slices.SortFunc(out.Members, func(a, b api.MemberStatus) int {
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func memberStatus(m cluster.Member, b cluster.Beat) api.MemberStatus {
	out := api.MemberStatus{Name: m.Name, Rank: m.Rank, Role: string(m.Role), State: api.MemberAlive, Stream: m.Stream.String(),
		Ready: b.Ready, ReadyFor: b.ReadyFor.Seconds(), Sick: b.Sick, Hung: b.Hung}
	if b.Start != 0 {
		out.Since = time.Unix(0, b.Start)
	}
	if b.Leaving || m.Leaving {
		out.State = api.MemberLeaving
	}
	return out
}

func (j *joined) peerStatus(p cluster.Peer) api.MemberStatus {
	out := memberStatus(p.Member, p.Beat)
	out.Since, out.ClockOffset = p.Since, p.Offset.Seconds()
	if !p.Alive {
		out.State = api.MemberDead
		out.Ready, out.ReadyFor, out.Sick, out.Hung = false, 0, false, false // that was its last word
	}
	now := time.Now()
	for _, path := range p.Paths {
		one := api.Path{Address: path.Addr.String(), Lost: path.Lost}
		if !path.Heard.IsZero() {
			ms := float64(now.Sub(path.Heard).Microseconds()) / 1000
			one.HeardMS = &ms
		}
		out.Paths = append(out.Paths, one)
	}
	for _, r := range j.replica.Status() {
		if r.Name == p.Member.Name {
			fillReplica(&out, r)
		}
	}
	return out
}

// fillReplica adds how records travel between this director and another.
func fillReplica(out *api.MemberStatus, r replica.PeerStatus) {
	out.Store, out.Format = r.Store, int(r.Record)
	out.Lag = api.Lag{Records: uint64(r.Lag), Seconds: r.LagFor.Seconds()}
	switch {
	case r.Syncing:
		out.Doing = fmt.Sprintf("compares tables: %d of about %d records here", r.Have, r.Of)
	case r.Dropped:
		out.Doing = "too much waited for it; tables are about to be compared"
	case !r.Synced && r.Dialled.Connected:
		out.Doing = "tables are about to be compared"
	}
	if !r.Since.IsZero() {
		since := r.Since
		out.Digest = api.DigestWord{Known: true, Equal: r.Equal, Since: &since}
	}
}

// owners are all addresses, and who is to hold each.
func (s several) owners(v cluster.View) []api.AddressOwner {
	var out []api.AddressOwner
	add := func(a netip.Addr, side cluster.Side, kind, of string, prefer []string) {
		one := api.AddressOwner{Address: a.String(), Kind: kind, Of: of, Prefer: prefer}
		one.Owner, one.Why = v.Owner(a, side, prefer, s.j.cfg.Cluster.PreemptAfter)
		if s.j.cfg.Cluster.AddressesAll && side == cluster.VIP {
			one.Owner, one.Why = "", "every director holds it, and routers spread"
		}
		if one.Held = v.Beat.HoldsAddr(a); one.Held {
			one.Holders = append(one.Holders, v.Self.Name)
		}
		for _, p := range v.Peers {
			if p.Alive && p.Beat.HoldsAddr(a) {
				one.Holders = append(one.Holders, p.Member.Name)
			}
		}
		out = append(out, one)
	}
	t := s.Table()
	prefer, of := map[netip.Addr][]string{}, map[netip.Addr][]string{}
	for _, svc := range t.Services() { // which may share a VIP
		maps.Copy(prefer, svc.Prefer)
		for _, a := range svc.VIPs {
			of[a] = append(of[a], svc.Name)
		}
	}
	for _, a := range t.VIPs() {
		add(a, cluster.VIP, "vip", strings.Join(of[a], ", "), prefer[a])
	}
	for _, n := range t.Tenants() {
		for _, a := range n.Gateways {
			add(a, cluster.Gateway, "gateway", n.Name, n.Prefer[a])
		}
	}
	return out
}

// Leave has the others take over, and tells them.
func (s several) Leave(ctx context.Context) error {
	if s.j.left.Load() {
		return api.ErrLeft
	}
	if err := s.Director.Leave(ctx); err != nil {
		return err
	}
	if err := s.j.gossip.Leave(ctx); err != nil {
		return err
	}
	s.j.left.Store(true)
	return nil
}

// Forget has all directors forget one. It is forgotten here last, so that it can be said again if one does not answer.
func (s several) Forget(ctx context.Context, name string) error {
	if p, ok := s.j.beater.View().Peer(name); ok && p.Alive {
		return api.Conflict(fmt.Sprintf("director %s is alive: have it leave, and stop it first", name))
	}
	if _, known := s.j.memory.all()[name]; !known {
		return fmt.Errorf("%w: %s", api.ErrNoMember, name)
	}
	if _, err := s.j.askAll(ctx, nodeQuestion{Forget: name}); err != nil {
		return err
	}
	s.j.memory.forget(name)
	return nil
}

// A nodeQuestion is what one director asks of another's daemon, beside its loop.
type nodeQuestion struct {
	Forget  string        `json:"forget,omitempty"`
	Keys    bool          `json:"keys,omitempty"`
	Keyring *keyringAsk   `json:"keyring,omitempty"`
	Version bool          `json:"version,omitempty"`
	Doctor  bool          `json:"doctor,omitempty"`
	Explain *api.Question `json:"explain,omitempty"`
	Events  *time.Time    `json:"events,omitempty"` // since when
	Fault   *faultAsk     `json:"fault,omitempty"`
}

type keyringAsk struct {
	Do          string `json:"do"`
	Key         []byte `json:"key,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

type nodeAnswer struct {
	Keys        []string          `json:"keys,omitempty"` // fingerprints, the primary's first
	Version     string            `json:"version,omitempty"`
	Doctor      *api.DoctorReport `json:"doctor,omitempty"`
	Explanation *api.Explanation  `json:"explanation,omitempty"`
	Why         string            `json:"why,omitempty"` // there is no explanation

	Events []api.Recorded `json:"events,omitempty"`
	Fault  *faultReply    `json:"fault,omitempty"`
}

// answer answers another director's daemon.
func (j *joined) answer(ctx context.Context, from string, question []byte) ([]byte, error) {
	var q nodeQuestion
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, fmt.Errorf("read director %s's question: %w", from, err)
	}
	var a nodeAnswer
	switch {
	case q.Forget != "":
		j.memory.forget(q.Forget)
	case q.Keyring != nil:
		if err := j.changeKeys(*q.Keyring); err != nil {
			return nil, err
		}
		j.log.Info("keyring changed", "do", q.Keyring.Do, "by", "director "+from)
	}
	for _, key := range j.ring.Keys() {
		a.Keys = append(a.Keys, gossip.Fingerprint(key))
	}
	if x := j.examiner.Load(); x != nil {
		if err := x.answer(ctx, q, &a); err != nil {
			return nil, err
		}
	}
	return json.Marshal(a)
}

// askAll asks all other live directors' daemons at once. The error joins those that did not answer.
func (j *joined) askAll(ctx context.Context, q nodeQuestion) (map[string]nodeAnswer, error) {
	all := j.askEvery(ctx, q, 5*time.Second)
	out, errs := map[string]nodeAnswer{}, []error(nil)
	for _, a := range all.answers {
		out[a.from] = a.nodeAnswer
	}
	for _, s := range all.silent {
		errs = append(errs, fmt.Errorf("director %s: %s", s.Director, s.Why))
	}
	return out, errors.Join(errs...)
}

// Keyring are the keys as fingerprints, those of every director that answers.
func (s several) Keyring(ctx context.Context) ([]api.KeyInfo, error) {
	others, _ := s.j.askAll(ctx, nodeQuestion{Keys: true}) // who does not answer is told as lacking them
	var own nodeAnswer
	for _, key := range s.j.ring.Keys() {
		own.Keys = append(own.Keys, gossip.Fingerprint(key))
	}
	others[s.j.cfg.Name] = own
	var names, prints []string
	for _, p := range s.j.beater.View().Peers {
		names = append(names, p.Member.Name)
	}
	for name, r := range s.j.memory.all() {
		if r.Left.IsZero() { // it may be dead, and come back
			names = append(names, name)
		}
	}
	names = append(names, s.j.cfg.Name)
	slices.Sort(names)
	names = slices.Compact(names)
	for _, a := range others {
		prints = append(prints, a.Keys...)
	}
	slices.Sort(prints)
	var out []api.KeyInfo
	for _, print := range slices.Compact(prints) {
		k := api.KeyInfo{Fingerprint: print}
		for _, name := range names {
			switch i := slices.Index(others[name].Keys, print); {
			case i < 0:
				k.Missing = append(k.Missing, name)
			case i == 0:
				k.PrimaryOn = append(k.PrimaryOn, name)
				fallthrough
			default:
				k.On = append(k.On, name)
			}
		}
		out = append(out, k)
	}
	return out, nil
}

// KeyringChange changes the ring here, then on all other directors that are alive.
func (s several) KeyringChange(ctx context.Context, c api.KeyringChange) error {
	ask := keyringAsk{Do: c.Do, Key: c.Key, Fingerprint: c.Fingerprint}
	if c.Do != api.KeyAdd {
		list, err := s.Keyring(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(k api.KeyInfo) bool { return k.Fingerprint == c.Fingerprint }) {
			return fmt.Errorf("%w: %s", api.ErrNoKey, c.Fingerprint)
		}
		if p := lockedOut(c, list); p != nil {
			return p
		}
	}
	if err := s.j.changeKeys(ask); err != nil {
		return err
	}
	_, err := s.j.askAll(ctx, nodeQuestion{Keyring: &ask})
	return err
}

// changeKeys does one step on this director. Doing it again does no harm.
func (j *joined) changeKeys(q keyringAsk) error {
	keys := j.ring.Keys()
	if q.Do == api.KeyAdd {
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, q.Key) }) {
			return nil
		}
		return j.ring.Add(q.Key)
	}
	i := slices.IndexFunc(keys, func(k []byte) bool { return gossip.Fingerprint(k) == q.Fingerprint })
	switch {
	case i < 0 && q.Do == api.KeyRemove:
		return nil
	case i < 0:
		return fmt.Errorf("%w: %s", api.ErrNoKey, q.Fingerprint)
	case q.Do == api.KeyUse:
		return j.ring.Use(keys[i])
	case q.Do == api.KeyRemove:
		return j.ring.Remove(keys[i])
	}
	return fmt.Errorf("%q is no change of a keyring", q.Do)
}
