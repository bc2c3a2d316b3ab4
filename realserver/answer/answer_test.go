package answer

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"tunneldirector/director/agent"
)

var (
	vip4 = netip.MustParseAddr("198.51.100.1")
	vip6 = netip.MustParseAddr("2001:db8:1::1")
)

// told is a Responder that has no sockets.
func told(method string, of map[string]State) *Responder {
	r := &Responder{o: Options{Method: method, Devices: []string{"decap4", "decap6"}}}
	r.states.Store(&states{})
	if of != nil {
		r.Set(of)
	}
	return r
}

func TestReply(t *testing.T) {
	one := map[string]State{"rs1": {Health: agent.HealthWorking, Tunnels: 7}}
	two := map[string]State{"rs1": {Health: agent.HealthDead, Full: true}, "rs2": {Health: agent.HealthHeadless, Closed: true}}
	nonce := agent.Nonce{1, 2, 3}
	for _, tt := range []struct {
		name, method, asked, device string
		of                          map[string]State
		want                        *agent.Answer
	}{
		{"dr", "dr", "rs1", "eth0", one, &agent.Answer{Health: agent.HealthWorking, Tunnels: 7, RealServer: "rs1"}},
		{"dr, decapsulated", "dr", "rs1", "decap4", one, &agent.Answer{Health: agent.HealthWorking, Tunnels: 7, RealServer: "rs1", WrongWay: true}},
		{"tunnel", "tunnel", "rs1", "decap6", one, &agent.Answer{Health: agent.HealthWorking, Tunnels: 7, RealServer: "rs1"}},
		{"tunnel, not decapsulated", "tunnel", "rs1", "eth0", one, &agent.Answer{Health: agent.HealthWorking, Tunnels: 7, RealServer: "rs1", WrongWay: true}},
		{"tunnel, by what is gone", "tunnel", "rs1", "", one, &agent.Answer{Health: agent.HealthWorking, Tunnels: 7, RealServer: "rs1", WrongWay: true}},
		{"another, and one is here", "dr", "rs9", "eth0", one, &agent.Answer{Health: agent.HealthWorking, Tunnels: 7, RealServer: "rs1"}},
		{"another, and two are here", "dr", "rs9", "eth0", two, nil},
		{"first of two", "dr", "rs1", "eth0", two, &agent.Answer{Health: agent.HealthDead, Full: true, RealServer: "rs1"}},
		{"second of two", "dr", "rs2", "eth0", two, &agent.Answer{Health: agent.HealthHeadless, Closed: true, RealServer: "rs2"}},
		{"nothing told yet", "dr", "rs1", "eth0", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := told(tt.method, tt.of)
			got, ok := r.reply(agent.AppendProbe(nil, nonce, tt.asked), tt.device)
			if ok != (tt.want != nil) || r.Counts().Nobody != map[bool]uint64{false: 1}[ok] {
				t.Fatalf("answered %v, counts %+v", ok, r.Counts())
			}
			if ok {
				tt.want.Nonce = nonce
				if d := cmp.Diff(*tt.want, got); d != "" {
					t.Error(d)
				}
			}
		})
	}
	if a, ok := told("dr", one).reply(agent.Answer{RealServer: "rs1"}.Append(nil), "eth0"); ok {
		t.Errorf("an answer is answered: %+v", a)
	}
}

// What was told long ago is not repeated.
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := told("dr", map[string]State{"rs1": {Health: agent.HealthWorking}})
		health := func() agent.Health {
			a, ok := r.reply(agent.AppendProbe(nil, agent.Nonce{}, "rs1"), "eth0")
			if !ok {
				t.Fatal("no answer")
			}
			return a.Health
		}
		time.Sleep(Stale)
		if h := health(); h != agent.HealthWorking {
			t.Errorf("after %v: %v", Stale, h)
		}
		time.Sleep(time.Second)
		if h := health(); h != agent.HealthUnknown {
			t.Errorf("after more than %v: %v", Stale, h)
		}
		r.Set(map[string]State{"rs1": {Health: agent.HealthWorking}})
		if h := health(); h != agent.HealthWorking {
			t.Errorf("told again: %v", h)
		}
	})
}

// A flood is told while questions wait for their share of the rate, and for a moment after.
func TestFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := told("dr", nil)
		r.limit = rate.NewLimiter(DefaultRate, DefaultRate/20)
		ask := func(perSecond int) {
			for range perSecond / atOnce {
				_ = r.share(t.Context())
				time.Sleep(time.Second * atOnce / time.Duration(perSecond))
			}
		}
		ask(DefaultRate / 2)
		if r.Flooded() {
			t.Error("half of the rate is told to be a flood")
		}
		r.limit.AllowN(time.Now(), DefaultRate/20)
		ask(DefaultRate)
		if !r.Flooded() {
			t.Error("more than the rate is not told to be a flood")
		}
		time.Sleep(floodHolds)
		ask(DefaultRate / 2)
		if r.Flooded() {
			t.Error("it is over, and told to go on")
		}
	})
}

func TestOptionsRefused(t *testing.T) {
	good := Options{VIPs: []netip.Addr{vip4}, Method: "dr"}
	if o, err := good.complete(); err != nil || o.Port != agent.DefaultProbe || o.Rate != DefaultRate {
		t.Errorf("%+v: %v", o, err)
	}
	for name, change := range map[string]func(*Options){
		"no VIP":       func(o *Options) { o.VIPs = nil },
		"invalid VIP":  func(o *Options) { o.VIPs = []netip.Addr{{}} },
		"any VIP":      func(o *Options) { o.VIPs = []netip.Addr{netip.IPv6Unspecified()} },
		"4in6":         func(o *Options) { o.VIPs = []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")} },
		"method":       func(o *Options) { o.Method = "masq" },
		"no device":    func(o *Options) { o.Method = "tunnel" },
		"negativ rate": func(o *Options) { o.Rate = -1 },
	} {
		o := good
		change(&o)
		if _, err := Open(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
