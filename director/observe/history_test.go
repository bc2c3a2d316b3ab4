package observe

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// A twin is a Book as plain as can be: what one real server's agent said.
type twin struct {
	seq, filling uint64
	listed       map[string]bool
	peers        map[string]Sighting
	from         map[string]netip.AddrPort // where a peer was that has moved, and nobody has noticed
}

func (w *twin) report(r *agent.Report, now time.Time) (err bool) {
	switch {
	case r.Seq == 0:
		return true
	case r.Whole && r.First:
		w.filling, w.listed = r.Seq, map[string]bool{}
	case r.Whole && w.filling != r.Seq, !r.Whole && w.filling != 0, !r.Whole && w.seq == 0:
		return true
	case !r.Whole && r.Seq <= w.seq:
		return false
	}
	for _, t := range r.Up {
		old, known := w.peers[t.Peer]
		x := Sighting{RealServer: r.RealServer, Tunnel: t, Before: old.Before}
		if known && old.Endpoint != t.Endpoint {
			if _, moved := w.from[t.Peer]; !moved {
				w.from[t.Peer] = old.Endpoint
			}
			if x.Before = w.from[t.Peer]; x.Before == t.Endpoint {
				x.Before = netip.AddrPort{}
			}
		}
		if t.Since.After(now) {
			x.Since = now
			if known && old.Endpoint == t.Endpoint && old.Local == t.Local {
				x.Since = old.Since
			}
		}
		w.peers[t.Peer] = x
		if r.Whole {
			w.listed[t.Peer] = true
		}
	}
	for _, peer := range r.Down {
		w.lose(peer, now)
	}
	if r.Whole && !r.Last {
		return false
	}
	if r.Whole {
		for peer := range w.peers {
			if !w.listed[peer] {
				w.lose(peer, now)
			}
		}
		w.filling = 0
	}
	w.seq = r.Seq
	return false
}

func (w *twin) lose(peer string, now time.Time) {
	if x, ok := w.peers[peer]; ok && x.Gone.IsZero() {
		x.Gone = now
		w.peers[peer] = x
	}
}

// A history is what happens to a Book and its twins, by bytes.
type history struct {
	t     *testing.T
	data  []byte
	at    time.Time
	book  *Book
	lines map[string]*line
	twins map[string]*twin
}

func newHistory(t *testing.T, data []byte) *history {
	h := &history{t: t, data: data, at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), lines: map[string]*line{}, twins: map[string]*twin{}}
	h.book = NewBook(func() time.Time { return h.at })
	for _, rs := range []string{"rs1", "rs2"} {
		h.twins[rs] = &twin{peers: map[string]Sighting{}, from: map[string]netip.AddrPort{}}
		h.join(rs, "first")
	}
	return h
}

// pick takes a byte of the history: one of n.
func (h *history) pick(n int) int {
	if len(h.data) == 0 {
		return 0
	}
	b := h.data[0]
	h.data = h.data[1:]
	return int(b) % n
}

func (h *history) join(rs, instance string) {
	if old := h.lines[rs]; old != nil {
		h.book.leave(old)
		if old.instance != instance {
			h.twins[rs].seq = 0
		}
	}
	l := newLine(nil, "host", instance)
	if _, err := h.book.join(l, hello(instance, rs), anyone); err != nil {
		h.t.Fatal(err)
	}
	h.lines[rs], h.twins[rs].filling = l, 0
}

var (
	vips  = []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}
	sites = []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:1::1")}
	ports = []uint16{0, 500, 4500, 65535}
)

// report is any, mostly one that an agent may send.
func (h *history) report(rs string) *agent.Report {
	w := h.twins[rs]
	r := &agent.Report{RealServer: rs, Seq: w.seq + uint64(h.pick(3))}
	switch h.pick(8) {
	case 0, 1:
		r.Whole, r.First, r.Last = true, true, true
	case 2:
		r.Whole, r.First = true, true
	case 3:
		r.Seq, r.Whole = w.filling, true
	case 4:
		r.Seq, r.Whole, r.Last = w.filling, true, true
	}
	for range h.pick(4) {
		t := agent.Tunnel{Peer: fmt.Sprint("peer ", h.pick(6)), Endpoint: netip.AddrPortFrom(sites[h.pick(3)], ports[h.pick(4)]), Since: h.at.Add(time.Duration(h.pick(40)-38) * time.Minute)}
		if n := h.pick(3); n < 2 {
			t.Local = vips[n]
		}
		for i := range h.pick(3) {
			t.Subnets = append(t.Subnets, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
		}
		r.Up = append(r.Up, t)
	}
	for range h.pick(3) {
		r.Down = append(r.Down, fmt.Sprint("peer ", h.pick(6)))
	}
	return r
}

func (h *history) step() {
	for name, w := range h.twins { // when exactly what is old is forgotten is the Book's to say
		maps.DeleteFunc(w.peers, func(peer string, x Sighting) bool {
			_, held := h.book.servers[name].peers[peer]
			old := !held && !x.Gone.IsZero() && h.at.Sub(x.Gone) > remember
			if old {
				delete(w.from, peer)
			}
			return old
		})
	}
	rs := []string{"rs1", "rs2"}[h.pick(2)]
	switch h.pick(12) {
	case 0:
		h.join(rs, h.lines[rs].instance)
	case 1:
		h.join(rs, h.lines[rs].instance+"+")
	case 2:
		h.at = h.at.Add(time.Duration(h.pick(20)) * time.Minute)
	case 3:
		for _, x := range h.book.News() {
			delete(h.twins[x.RealServer].from, x.Peer)
		}
	default:
		r := h.report(rs)
		_, err := h.book.report(h.lines[rs], r)
		if want := h.twins[rs].report(r, h.at); want != (err != nil) {
			h.t.Fatalf("%+v: %v; wanted an error: %v", r, err, want)
		}
		if err != nil {
			h.join(rs, h.lines[rs].instance)
		}
	}
	h.at = h.at.Add(time.Second)
	h.compare()
}

// compare holds the Book to its twins, and its parts to each other.
func (h *history) compare() {
	h.t.Helper()
	held, listed := 0, 0
	for rs, w := range h.twins {
		up := map[string]bool{}
		h.book.Each(rs, func(s Sighting) bool { up[s.Peer] = true; return true })
		want := map[string]bool{}
		for peer, x := range w.peers {
			if x.Gone.IsZero() {
				want[peer] = true
			}
		}
		a, _ := h.book.Agent(rs)
		if !maps.Equal(up, want) || a.Tunnels != len(want) || a.Whole != (w.seq > 0) {
			h.t.Fatalf("established at %s: %v, %+v; wanted %v", rs, up, a, want)
		}
		s := h.book.servers[rs]
		held += len(s.peers)
		subnets := 0
		for _, x := range s.peers {
			subnets += len(x.Subnets)
		}
		if subnets != s.subnets {
			h.t.Fatalf("%d subnets are counted as %d", subnets, s.subnets)
		}
	}
	for addr, list := range h.book.byAddr {
		listed += len(list)
		if len(list) == 0 || !slices.IsSortedFunc(list, inOrder) {
			h.t.Fatalf("index at %v: %v", addr, list)
		}
	}
	if held != listed {
		h.t.Fatalf("%d tunnels are held, %d are in the index", held, listed)
	}
	for _, q := range [][]affinity.Endpoint{
		{netip.AddrPortFrom(sites[0], 0)}, {netip.AddrPortFrom(sites[1], 500)}, {netip.AddrPortFrom(sites[2], 65535)},
		{netip.AddrPortFrom(sites[0], 500), netip.AddrPortFrom(sites[0], 4500), netip.AddrPortFrom(sites[2], 0), netip.AddrPortFrom(sites[0], 500)},
		{netip.AddrPortFrom(sites[1], 500), netip.AddrPortFrom(sites[1], 0), netip.AddrPortFrom(sites[1], 500)},
	} {
		for _, gone := range []bool{false, true} {
			h.query(vips[:1], q, gone)
			h.query(vips, q, gone)
		}
	}
}

// query compares what is found, but for what ended so long ago that it may be forgotten or not.
func (h *history) query(at []netip.Addr, endpoints []affinity.Endpoint, gone bool) {
	h.t.Helper()
	want := map[string]Sighting{}
	for _, w := range h.twins {
		for _, x := range w.peers {
			hit := slices.ContainsFunc(endpoints, func(e affinity.Endpoint) bool {
				return e.Addr() == x.Endpoint.Addr() && (e.Port() == 0 || x.Endpoint.Port() == 0 || e.Port() == x.Endpoint.Port())
			})
			if hit && (gone || x.Gone.IsZero()) && (!x.Local.IsValid() || slices.Contains(at, x.Local)) && (x.Gone.IsZero() || h.at.Sub(x.Gone) <= remember) {
				want[x.RealServer+x.Peer] = x
			}
		}
	}
	got := map[string]Sighting{}
	var last *Sighting
	for _, s := range h.book.Sightings(at, endpoints, gone) {
		if last != nil && (last.Gone.IsZero() == s.Gone.IsZero() && s.Since.After(last.Since) || s.Gone.IsZero() && !last.Gone.IsZero()) {
			h.t.Fatalf("%+v comes after %+v", s, *last)
		}
		last = &s
		if !s.Gone.IsZero() && h.at.Sub(s.Gone) > remember {
			continue
		}
		key := s.RealServer + s.Peer
		if _, twice := got[key]; twice {
			h.t.Fatalf("found twice: %+v", s)
		}
		if s.Heard.After(h.at) || s.Heard.IsZero() {
			h.t.Fatalf("heard at %v, and it is %v", s.Heard, h.at)
		}
		s.Heard = time.Time{}
		got[key] = s
	}
	if !reflect.DeepEqual(want, got) {
		h.t.Fatalf("%v at %v, gone %v: -want +got\n%s", endpoints, at, gone, cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)))
	}
}

func TestHistories(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			data := make([]byte, 2000)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			for h := newHistory(t, data); len(h.data) > 0; {
				h.step()
			}
		})
	}
}

func FuzzHistory(f *testing.F) {
	r := rand.New(rand.NewPCG(0, 2))
	for range 4 {
		data := make([]byte, 300)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for h := newHistory(t, data[:min(len(data), 500)]); len(h.data) > 0; {
			h.step()
		}
	})
}
