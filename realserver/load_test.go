package realserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// gauge is a Meter that says what it is told.
type gauge struct {
	mu      sync.Mutex
	load    agent.Load
	err     error
	tunnels uint32
}

func (g *gauge) Sample(_ context.Context, _ terminator.Work, tunnels uint32) (agent.Load, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tunnels = tunnels
	return g.load, g.err
}

func (g *gauge) set(f func(*gauge)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(g)
}

// TestLoad: that a real server is full is told at once, how full it is each second, and what is not known once.
func TestLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{}
		l := begin(t, &software{up: sites(7, time.Now())}, 1, func(_ *lab, o *Options) { o.Instances[0].Meter = g })
		d := l.directors[0]
		settle(2500 * time.Millisecond)
		if g.tunnels != 7 {
			t.Errorf("the meter is told of %d tunnels", g.tunnels)
		}
		g.set(func(g *gauge) {
			g.load = agent.Load{Permille: 900, Parts: []agent.Part{{Name: "cpu", Permille: 900, Says: "72 % of a core, ceiling 80 %"}}}
		})
		settle(2 * time.Second)
		if s := d.last(); s.Load.Permille != 900 || len(s.Load.Parts) != 1 {
			t.Errorf("%+v", s.Load)
		}
		g.set(func(g *gauge) { g.load.Full = true })
		settle(1100 * time.Millisecond) // until the next measure
		if !d.last().Load.Full || !l.answer().Full {
			t.Error("it is full and nobody knows")
		}
		g.set(func(g *gauge) { g.err = errors.New("no /proc") })
		settle(10 * time.Second)
		if n := len(slices.DeleteFunc(slices.Clone(l.logs.list), func(s string) bool { return !strings.Contains(s, "load is not known") })); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if !d.last().Load.Full {
			t.Error("what cannot be measured is not full any more")
		}
	})
}

// TestStatusEachSecond: at rest a status goes out every second, not more often.
func TestStatusEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t, &software{}, 1, nil)
		settle(300 * time.Second)
		if n := l.directors[0].heard; n < 290 || n > 310 {
			t.Errorf("%d statuses in 300 s", n)
		}
	})
}

func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := begin(t, &software{up: sites(3, time.Now())}, 1, nil)
		settle(time.Second)
		get := func(path string, v any) {
			t.Helper()
			w := httptest.NewRecorder()
			l.agent.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if err := json.Unmarshal(w.Body.Bytes(), v); err != nil || w.Code != 200 {
				t.Errorf("%s: %d, %v", path, w.Code, err)
			}
		}
		var s Status
		get("/status", &s)
		if s.Host != "node-a" || s.RealServers[0].Health != "working" || s.RealServers[0].Looked == nil || !s.Directors[0].Connected {
			t.Errorf("%+v", s)
		}
		var list, none []TunnelStatus
		get("/tunnels", &list)
		get("/tunnels?real_server=rs2", &none)
		if len(list) != 3 || list[2].Peer != "site-00002" || list[0].Endpoint != "198.18.0.0:4500" || none == nil || len(none) != 0 {
			t.Errorf("%+v, %+v", list, none)
		}
	})
}
