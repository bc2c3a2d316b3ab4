package strongswan

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/strongswan/govici/vici"

	"tunneldirector/director/agent"
)

func TestMessage(t *testing.T) {
	m := message(nil).value("a", "1").section("s", message(nil).list("l", "x", "y").section("t", message(nil).value("b", "2"))).list("none").value("c", "")
	want := map[string]string{"a": "1", "s/l": "x y", "s/t/b": "2", "c": ""}
	if diff := cmp.Diff(want, flat(t, m)); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	for n := 1; n < len(m); n++ {
		if err := m[:n].each(func(sections, []byte, []byte) error { return nil }); err != nil && !errors.Is(err, errNonsense) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
}

// TestAsOthersSpeak: a client of another hand understands the fake, and so what this one says and reads.
func TestAsOthersSpeak(t *testing.T) {
	f := startFake(t)
	f.sas = []fakeSA{known("sites", "1", "site-1", "203.0.113.11 4500", installed("net", "c0000001", true, "100.64.1.0/28", "100.64.2.0/28"))}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", f.socket)
	}
	s, err := vici.NewSession(vici.WithDialContext(dial))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := s.StreamedCommandRequest("list-sas", "list-sa", nil)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d messages, %v", len(all), err)
	}
	one := all[0].Get("sites").(*vici.Message)
	if got := one.Get("remote-id"); got != "site-1" {
		t.Errorf("remote-id %v", got)
	}
	behind := one.Get("child-sas").(*vici.Message).Get("net-c0000001").(*vici.Message).Get("remote-ts")
	if diff := cmp.Diff([]string{"100.64.1.0/28", "100.64.2.0/28"}, behind); diff != "" {
		t.Errorf("remote-ts (-want +got):\n%s", diff)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(known("sites", "1", "site-1", "203.0.113.11 4500", installed("net", "c0000001", true, "100.64.1.0/28")).body))
	f.Add([]byte(message(nil).section("sites", known("sites", "1", "x", "2001:db8::1 500", installed("net", "1", false, "::/0[tcp]", "10.0.0.1..10.0.0.9", "dynamic")).body)))
	f.Add([]byte(message(nil).section("c", message(nil).section("local-1", message(nil).value("class", "public key").list("certs", "CN=a")))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if one, err := readSA(b, sa{}); err == nil {
			s := seen{sites: map[string]*site{}, round: 1, look: look{at: time.Now(), begun: map[string][]uint64{}, suites: map[string]suite{}}}
			s.add(one)
			s.end()
			_ = one.suite.proposal()
			for _, x := range s.tunnels {
				if len(x.Peer) > agent.MaxText || len(x.Subnets) > agent.MaxSubnets || !x.Endpoint.Addr().IsValid() {
					t.Errorf("a tunnel that no report may hold: %+v", x)
				}
			}
		}
		if _, err := readConnection(b); err == nil {
			_ = message(b).success()
		}
	})
}
