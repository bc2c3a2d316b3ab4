package libreswan

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// A fake is a whack that prints what files in its directory say, by its first argument, and keeps its arguments.
type fake struct {
	t   testing.TB
	dir string
}

func startFake(t testing.TB, script string) *fake {
	t.Helper()
	f := &fake{t, t.TempDir()}
	f.write("pluto.ctl", "")
	f.write("whack", "#!/bin/sh\ncd '"+f.dir+"' && shift 2 && echo \"$@\" >>asked && "+script+"\n")
	if err := os.Chmod(filepath.Join(f.dir, "whack"), 0o755); err != nil {
		t.Fatal(err)
	}
	return f
}

const prints = `if [ -e ".$1" ]; then cat ".$1"; fi`

func (f *fake) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// asked are the commands since the last time, but those that only look.
func (f *fake) asked() []string {
	f.t.Helper()
	name := filepath.Join(f.dir, "asked")
	b, err := os.ReadFile(name)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write("asked", "")
	var all []string
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "status") && !strings.Contains(line, "showstates") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

func (f *fake) driver(o Options) *Driver {
	f.t.Helper()
	o.RunDir, o.Program = f.dir, filepath.Join(f.dir, "whack")
	d, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// said is what libreswan 4.10 says of a site with an address of its own and one behind NAT, which has two subnets.
var said = map[string]string{
	".--trafficstatus": `006 #2: "site-001"[1] 203.0.113.11, type=ESP, add_time=1, inBytes=252, outBytes=168, maxBytes=2^63B, id='@site-001'
006 #4: "site-002"[1] 203.0.113.254, type=ESP, add_time=1, inBytes=10, outBytes=20, maxBytes=2^63B, id='@site-002'
006 #5: "site-002"[1] 203.0.113.254, type=ESP, add_time=1, inBytes=1, outBytes=2, maxBytes=2^63B, id='@site-002'
006 #8: "site-003", type=ESP, add_time=1, inBytes=1, outBytes=2, maxBytes=2^63B, id='C=CH, CN=site 3'
006 #9: "gone", type=ESP, add_time=1, inBytes=1, outBytes=2, maxBytes=2^63B, id='@gone'
`,
	".--showstates": `000 #1: "site-001"[1] 203.0.113.11:500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 28000s; newest; idle;
000 #2: "site-001"[1] 203.0.113.11:500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28000s; newest; eroute owner; IKE SA #1; idle;
000 #4: "site-002"[1] 203.0.113.254:10377 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28000s; newest; eroute owner; IKE SA #3; idle;
000 #5: "site-002"[1] 203.0.113.254:10377 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28000s; newest; eroute owner; IKE SA #3; idle;
000 #8: "site-003":500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28000s; newest; eroute owner; IKE SA #7; idle;
`,
	".--status": `000 "site-001": 192.0.2.128/25===192.0.2.10[@vip]...%any[@site-001]===100.64.1.0/28; unrouted; eroute owner: #0
000 "site-001"[1]: 192.0.2.128/25===192.0.2.10[@vip]...203.0.113.11[@site-001]===100.64.1.0/28; erouted; eroute owner: #2
000 "site-001"[1]:     oriented; my_ip=unset; their_ip=unset; my_updown=%disabled;
000 "site-002"[1]: 192.0.2.128/25===192.0.2.10[@vip]...203.0.113.254[@site-002]===100.64.3.0/28; erouted; eroute owner: #4
000 "site-002"[1]: 192.0.2.128/25===192.0.2.10[@vip]---198.51.100.1...198.51.100.1---203.0.113.254<nat>[@site-002,+XC]===100.64.2.0/28; erouted; eroute owner: #5
000 "site-003": 2001:db8:c::/64===2001:db8::10[@vip]...2001:db8:a::c[C=CH, CN=site 3]===2001:db8:64::/64; erouted; eroute owner: #8
`,
}

var byValue = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Since" }, cmp.Ignore())}

func serving(t testing.TB) *fake {
	t.Helper()
	f := startFake(t, prints)
	for name, text := range said {
		f.write(name, text)
	}
	return f
}

func TestTunnels(t *testing.T) {
	got, err := serving(t).driver(Options{}).Tunnels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	net, addr := netip.MustParsePrefix, netip.MustParseAddr
	want := []agent.Tunnel{
		{Peer: "site-001 @site-001", Local: addr("192.0.2.10"), Endpoint: netip.MustParseAddrPort("203.0.113.11:0"), Subnets: []netip.Prefix{net("100.64.1.0/28")}, Rx: 252, Tx: 168},
		{Peer: "site-002 @site-002", Local: addr("192.0.2.10"), Endpoint: netip.MustParseAddrPort("203.0.113.254:10377"), Subnets: []netip.Prefix{net("100.64.2.0/28"), net("100.64.3.0/28")}, Rx: 11, Tx: 22},
		{Peer: "site-003 C=CH, CN=site 3", Local: addr("2001:db8::10"), Endpoint: netip.MustParseAddrPort("[2001:db8:a::c]:0"), Subnets: []netip.Prefix{net("2001:db8:64::/64")}, Rx: 1, Tx: 2},
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("tunnels (-want +got):\n%s", diff)
	}
	only, err := serving(t).driver(Options{Connections: "site-00[23]"}).Tunnels(t.Context())
	if err != nil || len(only) != 2 {
		t.Errorf("of two connections: %v, %v", only, err)
	}
}

// TestAskedOnce: pluto tells of all its connections only when there is a Child SA of which it was not asked.
func TestAskedOnce(t *testing.T) {
	f := serving(t)
	d := f.driver(Options{})
	look := func(want int) {
		t.Helper()
		f.write("asked", "")
		if all, err := d.Tunnels(t.Context()); err != nil || len(all) != 3 {
			t.Fatalf("%v, %v", all, err)
		}
		b, err := os.ReadFile(filepath.Join(f.dir, "asked"))
		if got := strings.Count(string(b), "--status"); got != want || err != nil {
			t.Errorf("asked %d times, want %d (%v)", got, want, err)
		}
	}
	look(1)
	look(0)
	f.write(".--trafficstatus", said[".--trafficstatus"]+`006 #12: "new", type=ESP, add_time=1, inBytes=1, outBytes=2, maxBytes=2^63B, id='@new'`+"\n")
	look(1)
	look(0)
	// Another pluto, or the numbers of one that started anew.
	f.write(".--trafficstatus", strings.Replace(said[".--trafficstatus"], `#9: "gone"`, `#9: "other"`, 1))
	look(0)
	f.write(".--trafficstatus", strings.Replace(said[".--trafficstatus"], `#2: "site-001"`, `#2: "site-007"`, 1))
	f.write(".--status", strings.ReplaceAll(said[".--status"], "site-001", "site-007"))
	look(1)
}

// TestLast: time passes over new keys, and packets are noticed.
func TestLast(t *testing.T) {
	f := serving(t)
	d := f.driver(Options{Connections: "site-001"})
	look := func() agent.Tunnel {
		t.Helper()
		all, err := d.Tunnels(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		return all[0]
	}
	first := look()
	if second := look(); !second.Since.Equal(first.Since) || !second.Last.IsZero() {
		t.Errorf("idle: %+v, it was %+v", second, first)
	}
	f.write(".--trafficstatus", strings.Replace(said[".--trafficstatus"], "inBytes=252", "inBytes=300", 1))
	if third := look(); !third.Since.Equal(first.Since) || third.Last.IsZero() {
		t.Errorf("after a packet: %+v, it was %+v", third, first)
	}
	f.write(".--showstates", strings.ReplaceAll(said[".--showstates"], "IKE SA #1;", "IKE SA #20;"))
	if fourth := look(); !fourth.Since.Equal(first.Since) {
		t.Errorf("after new keys: %+v, it was %+v", fourth, first)
	}
}

func TestAdoptAndRelease(t *testing.T) {
	f := serving(t)
	d := f.driver(Options{})
	order := func(peer, endpoint string) agent.Inherited {
		return agent.Inherited{ID: "t", Peer: peer, Local: netip.MustParseAddr("192.0.2.10"), Endpoint: netip.MustParseAddrPort(endpoint)}
	}
	for _, tt := range []struct {
		name  string
		do    func(context.Context, agent.Inherited) error
		order agent.Inherited
		want  []string
		err   error
	}{
		{"adopt", d.Adopt, order("site-009 @site-009", "203.0.113.19:0"), []string{"--initiate --name site-009 --remote-host 203.0.113.19 --asynchronous"}, nil},
		{"adopt what is stale", d.Adopt, order("site-001 @site-001", "203.0.113.11:0"), []string{"--deletestate 1 --asynchronous", "--initiate --name site-001 --remote-host 203.0.113.11 --asynchronous"}, nil},
		{"adopt behind NAT", d.Adopt, order("site-002 @site-002", "203.0.113.254:10377"), nil, terminator.ErrWait},
		{"adopt nobody", d.Adopt, order("", "203.0.113.11:0"), nil, terminator.ErrWait},
		{"release", d.Release, order("site-002 @site-002", "203.0.113.254:10377"), []string{"--deletestate 3 --asynchronous"}, nil},
		{"release what is not there", d.Release, order("site-009 @site-009", "203.0.113.19:0"), nil, nil},
	} {
		f.write("asked", "")
		err := tt.do(t.Context(), tt.order)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.err)
		}
		if diff := cmp.Diff(tt.want, f.asked()); diff != "" {
			t.Errorf("%s: asked (-want +got):\n%s", tt.name, diff)
		}
	}
	if err := d.Accept(t.Context(), false); !errors.Is(err, terminator.ErrCannot) {
		t.Errorf("accept: %v", err)
	}
}

// TestSharedIdentity: sites of one name are told apart by where they are, and one of them is given up alone.
func TestSharedIdentity(t *testing.T) {
	f := serving(t)
	f.write(".--trafficstatus", `006 #2: "sites"[1] 203.0.113.11, type=ESP, add_time=1, inBytes=1, outBytes=2, maxBytes=2^63B, id='@x'
006 #4: "sites"[2] 203.0.113.12, type=ESP, add_time=1, inBytes=1, outBytes=2, maxBytes=2^63B, id='@x'
`)
	f.write(".--showstates", `000 #2: "sites"[1] 203.0.113.11:4500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28000s; newest; eroute owner; IKE SA #1; idle;
000 #4: "sites"[2] 203.0.113.12:4500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); REKEY in 28000s; newest; eroute owner; IKE SA #3; idle;
`)
	f.write(".--status", `000 "sites"[1]: 192.0.2.128/25===192.0.2.10[@vip]...203.0.113.11[@x]===100.64.1.0/28; erouted; eroute owner: #2
000 "sites"[2]: 192.0.2.128/25===192.0.2.10[@vip]...203.0.113.12[@x]===100.64.2.0/28; erouted; eroute owner: #4
`)
	d := f.driver(Options{})
	all, err := d.Tunnels(t.Context())
	if err != nil || len(all) != 2 || all[0].Peer != "sites @x at 203.0.113.11:4500" || all[1].Peer != "sites @x at 203.0.113.12:4500" {
		t.Fatalf("%+v, %v", all, err)
	}
	f.write("asked", "")
	for _, peer := range []string{all[1].Peer, "sites @x"} {
		if err := d.Release(t.Context(), agent.Inherited{ID: "t", Peer: peer, Endpoint: all[1].Endpoint}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"--deletestate 3 --asynchronous"}, f.asked()); diff != "" {
			t.Errorf("release %s: asked (-want +got):\n%s", peer, diff)
		}
	}
	gone := agent.Inherited{ID: "t", Peer: "sites @x", Endpoint: netip.MustParseAddrPort("203.0.113.19:0")}
	says := "sites @x is established, but from 203.0.113.11:4500 and not from 203.0.113.19:0"
	if err := d.Release(t.Context(), gone); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("release from where it is not: %v", err)
	}
	if diff := cmp.Diff([]string(nil), f.asked()); diff != "" {
		t.Errorf("release from where it is not: asked (-want +got):\n%s", diff)
	}
	if err := d.Adopt(t.Context(), gone); err != nil {
		t.Errorf("adopt where it is not yet: %v", err)
	}
}

// TestFailures: whatever whack does, a look ends soon and says what it was.
func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         error
	}{
		{"no pluto", "echo 'whack: Pluto is not running (no \"/run/pluto/pluto.ctl\")' >&2; exit 1", terminator.ErrGone},
		{"refused", "echo 'whack: is Pluto running? connect() for \"pluto.ctl\" failed (111 Connection refused)' >&2; exit 1", terminator.ErrGone},
		{"it hangs", "exec sleep 60", context.DeadlineExceeded},
		{"it leaves a child that hangs", "{ sleep 60 & } ; exit 0", nil},
		{"another error", "echo 'no such option' >&2; exit 33", nil},
		{"too much", "exec yes", errTooMuch},
		{"numbers that are none", "echo '006 #99999999999999999999: \"x\", type=ESP, add_time=1, inBytes=2, outBytes=3'", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limit := 20 * time.Second
			if strings.Contains(tt.name, "hangs") {
				limit = time.Second
			}
			d := startFake(t, tt.script).driver(Options{Timeout: limit})
			began := time.Now()
			_, err := d.Tunnels(t.Context())
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	d := startFake(t, prints).driver(Options{})
	if err := os.Remove(filepath.Join(d.o.RunDir, "pluto.ctl")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Tunnels(t.Context()); !errors.Is(err, terminator.ErrGone) {
		t.Errorf("no socket: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := serving(t).driver(Options{}).Tunnels(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestWork: the pid that pluto left is only believed if it is pluto's.
func TestWork(t *testing.T) {
	f := startFake(t, prints)
	for _, pid := range []string{"", "x", "1", "99999999"} {
		f.write("pluto.pid", pid+"\n")
		if w, err := f.driver(Options{}).Work(t.Context()); err == nil {
			t.Errorf("pid %q: %+v", pid, w)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range said {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, out string) {
		if all, err := parseTraffic(out); err != nil && all != nil {
			t.Error("traffic beside an error")
		}
		_, _ = parseStates(out)
		all, _ := parsePolicies(out)
		for _, p := range all {
			if p.behind.IsValid() && p.behind != p.behind.Masked() {
				t.Errorf("network %s", p.behind)
			}
		}
	})
}
