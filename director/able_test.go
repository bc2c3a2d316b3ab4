package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/affinity"
	"tunneldirector/director/plane"
	"tunneldirector/director/plane/mem"
)

// narrow is a plane that carries no GRE, holds at most so many real servers, and tags nothing.
type narrow struct {
	*mem.Plane
	servers int
}

func (n narrow) Check(c plane.Config) (out []plane.Inability) {
	for _, s := range c.Services {
		for i, m := range s.Match {
			if m.Proto == 47 {
				out = append(out, plane.Inability{Kind: "service", Name: s.Name, Fault: affinity.Fault{Field: fmt.Sprintf("protocols[%d]", i), Value: "gre", Problem: "is not carried", Remedy: "plane: xdp"}})
			}
		}
	}
	seen := map[affinity.Index]bool{}
	for i, rs := range c.RealServers {
		fault := affinity.Fault{}
		switch {
		case rs.Index == 0 || seen[rs.Index]:
			fault = affinity.Fault{Field: "name", Problem: "has no index of its own"}
		case len(rs.VLANs) > 0:
			fault = affinity.Fault{Field: "vlans", Problem: "are not put on"}
		case i >= n.servers:
			fault = affinity.Fault{Field: "name", Problem: "is one too many"}
		default:
			seen[rs.Index] = true
			continue
		}
		out = append(out, plane.Inability{Kind: "realserver", Name: rs.Name, Fault: fault})
	}
	return out
}

// inNarrow runs f with a director over a narrow plane.
func inNarrow(t *testing.T, servers int, f func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, disk: &disk{records: map[string]affinity.Change{}}, host: &machine{answering: 9}, plane: mem.New(interfaces)}
		w.over = narrow{w.plane, servers}
		w.start()
		f(w)
		w.stop()
	})
}

func gre(protocols ...uint8) affinity.PutService {
	s := &affinity.Service{Name: "plain", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.20")}}
	for _, p := range protocols {
		s.Match = append(s.Match, affinity.Match{Proto: p})
	}
	return affinity.PutService{By: operator, Service: s}
}

func faults(t *testing.T, r affinity.Result) []affinity.Fault {
	t.Helper()
	var refusal *affinity.Refusal
	if !errors.As(r.Err, &refusal) || refusal.Reason != affinity.Invalid {
		t.Fatalf("answered %+v, want a refusal as invalid", r)
	}
	return refusal.Faults
}

func TestWhatThePlaneCannotDoIsRefused(t *testing.T) {
	inNarrow(t, 9, func(w *world) {
		w.base(1)
		before := w.d.Table().Revision()
		want := []affinity.Fault{{Field: "protocols[1]", Value: "gre", Problem: "is not carried", Remedy: "plane: xdp"}}
		if diff := cmp.Diff(want, faults(t, w.do(gre(50, 47))[0])); diff != "" {
			t.Error(diff)
		}
		if _, there := w.d.Table().Service("plain"); there || w.d.Table().Revision() != before {
			t.Error("the refused service is in the table")
		}
		// What comes with it in one step is not touched by the refusal.
		results := w.do(gre(50), gre(47), affinity.PutTenant{By: operator, Tenant: &affinity.Tenant{Name: "acme"}})
		if s, ok := w.d.Table().Service("plain"); results[0].Err != nil || results[1].Err == nil || results[2].Err != nil || !ok || s.Match[0].Proto != 50 {
			t.Errorf("answers %+v, service %+v", results, s)
		}
	})
}

// What a tenant or a real server that was never alive makes impossible is refused too, and told by the name of the other.
func TestWhatThePlaneCannotDoOfOtherObjects(t *testing.T) {
	inNarrow(t, 1, func(w *world) {
		w.base(1)
		rs := func(name string, last byte) affinity.PutRealServer {
			return affinity.PutRealServer{By: operator, RealServer: &affinity.RealServer{Name: name, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, last})}, Services: []string{"ipsec"}, Weight: 100}}
		}
		if f := faults(t, w.do(rs("rs9", 9))[0]); len(f) != 1 || f[0].Field != "name" {
			t.Errorf("faults %+v", f)
		}
		tagged := rs("rs1", 1)
		tagged.RealServer.VLANs = map[string]uint16{"": 7}
		if f := faults(t, w.do(tagged)[0]); len(f) != 1 || f[0].Field != "vlans" {
			t.Errorf("faults %+v", f)
		}
	})
}

func TestAbleNamesTheOtherObject(t *testing.T) {
	inNarrow(t, 9, func(w *world) {
		w.must(gre(50))
		w.stop()
		tx := w.d.begin()
		r := tx.able("tenant", "", func() {
			s, _ := tx.t.Service("plain")
			next := *s
			next.Match = []affinity.Match{{Proto: 47}}
			tx.t.PutService(&next)
		})
		want := []affinity.Fault{{Value: "gre", Problem: "service plain, protocols[0]: is not carried", Remedy: "plane: xdp"}}
		if r == nil || r.Object != "tenant default" || cmp.Diff(want, r.Faults) != "" {
			t.Errorf("refusal %+v", r)
		}
		w.start()
	})
}

// A table that was made over another plane: the director does not start, says all, and touches nothing.
func TestStoredTableThatThePlaneCannotDo(t *testing.T) {
	inWorld(t, func(w *world) {
		w.base(2)
		w.must(gre(47), affinity.PutTenant{By: operator, Tenant: &affinity.Tenant{Name: "acme"}})
		fresh := mem.New(interfaces)
		_, err := Open(context.Background(), load(t, w.disk), Options{Name: "d1", Plane: narrow{fresh, 1}, PlaneKind: "narrow", Host: w.host, Log: slog.New(slog.DiscardHandler)})
		var unable Unable
		if !errors.As(err, &unable) || !errors.Is(err, plane.ErrUnsupported) || len(unable) != 2 {
			t.Fatalf("Open: %v", err)
		}
		for _, s := range []string{"plane narrow", "service plain, protocols[0] \"gre\": is not carried; plane: xdp", "real server rs2, name: is one too many"} {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q does not say %q", err, s)
			}
		}
		if dec, _ := fresh.Lookup(plane.Packet{Interface: "out", Src: netip.MustParseAddr("203.0.113.1"), Dst: netip.MustParseAddr("192.0.2.20"), Proto: 47, Hops: 9}); dec.Service != 0 {
			t.Error("the plane was programmed")
		}
	})
}

// Try judges changes together, in whatever order they come, and leaves no trace.
func TestTry(t *testing.T) {
	inNarrow(t, 9, func(w *world) {
		w.base(2)
		w.must(put(site(1)))
		at, _ := w.ways(site(1))
		before, disk := w.d.Table().Revision(), len(w.disk.commits)
		fresh := gre(50)
		fresh.Service.Name = "fresh"
		server := affinity.PutRealServer{By: operator, RealServer: &affinity.RealServer{Name: "rs9", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.9")}, Services: []string{"fresh"}, Weight: 100}}
		results, err := w.d.Try(w.t.Context(), []affinity.Op{server, gre(47), fresh})
		if err != nil || results[0].Err != nil || !results[0].Created || results[1].Err == nil || !results[2].Created {
			t.Errorf("Try: %+v, %v", results, err)
		}
		w.settle()
		if _, there := w.d.Table().Service("fresh"); there || w.d.Table().Revision() != before || len(w.disk.commits) != disk {
			t.Error("it left a trace")
		}
		w.at(site(1), at)
		if r := w.must(fresh)[0]; !r.Created {
			t.Errorf("afterwards: %+v", r)
		}
	})
}
