package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	page, err := c.TunnelPage(t.Context(), TunnelFilter{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if _, err := c.PutTunnel(t.Context(), Tunnel{ID: id, Service: "ipsec"}); err != nil {
			t.Fatal(err)
		}
	}
	since := page.Revision
	for _, want := range [][]string{{"a", "b"}, {"c"}} { // the second time from where the first one ended
		var got []string
		for w, err := range c.Watch(t.Context(), since) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, w.Object)
			since = w.Revision
			if len(got) == len(want) {
				break
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("events of %v, want %v", got, want)
		}
	}
}

func TestWatchFromNow(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{Heartbeat: 20 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() {
		for i := 0; ctx.Err() == nil; i++ { // until the watcher is there
			_, _ = c.PutTunnel(ctx, Tunnel{ID: "a", Service: "ipsec", Bandwidth: uint64(i)})
			time.Sleep(30 * time.Millisecond)
		}
	}()
	for w, err := range c.Watch(ctx, "") {
		if err != nil || w.Kind != "placed" || w.Object != "a" {
			t.Errorf("%+v %v", w, err)
		}
		return
	}
	t.Error("no event")
}

func TestWatchGone(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	l.mu.Lock()
	l.oldest = l.t.Revision()
	l.mu.Unlock()
	for _, err := range c.Watch(t.Context(), "store1:2") {
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusGone || !strings.Contains(p.Error(), "GET /v1/tunnels") {
			t.Errorf("%v", err)
		}
	}
}

// A reader that falls behind is told so by the last event.
func TestWatchFallsBehind(t *testing.T) {
	l := furnished()
	c, _ := serveUnix(t, l, Options{})
	if _, err := c.PutTunnel(t.Context(), Tunnel{ID: "a", Service: "ipsec"}); err != nil {
		t.Fatal(err)
	}
	first := true
	for _, err := range c.Watch(t.Context(), "store1:2") {
		if first {
			first = false
			l.mu.Lock()
			l.oldest = l.t.Revision() + 10
			close(l.poke) // wake up who waits
			l.poke = make(chan struct{})
			l.mu.Unlock()
		}
		var p *Problem
		if err != nil && (!errors.As(err, &p) || p.Status != http.StatusGone) {
			t.Errorf("%v", err)
		}
		if err != nil {
			return
		}
	}
	t.Error("the watch did not end")
}

func TestWatchEndsWithTheServer(t *testing.T) {
	c, stop := serveUnix(t, furnished(), Options{})
	began := time.Now()
	for _, err := range c.Watch(t.Context(), "store1:2") {
		if err == nil {
			go func() { _ = stop() }()
			continue
		}
		var p *Problem
		if !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable {
			t.Errorf("%v", err)
		}
	}
	if err := stop(); err != nil || time.Since(began) > stopTimeout {
		t.Errorf("stop: %v after %s", err, time.Since(began))
	}
}

func TestHeartbeatAndIDs(t *testing.T) {
	l := furnished()
	srv := serve(t, l, Options{Heartbeat: 10 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/v1/watch?since=store9:1", nil)
	req.Header.Set("Last-Event-ID", "store1:2") // goes before since
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got bytes.Buffer
	buf := make([]byte, 4096)
	for !strings.Contains(got.String(), ": still here") {
		n, err := res.Body.Read(buf)
		if err != nil {
			t.Fatalf("%v after %s", err, got.String())
		}
		got.Write(buf[:n])
	}
	if s := got.String(); res.Header.Get("Content-Type") != "text/event-stream" || !strings.Contains(s, "retry: 2000\n\n") || !strings.Contains(s, "id: store1:") || !strings.Contains(s, "event: real-server\ndata: {") {
		t.Errorf("%s", s)
	}
}

// Of several events with one number only the last one has it as id.
func TestIDsDoNotSplitACommit(t *testing.T) {
	var st stream
	st.store = "s"
	st.events([]Event{{Seq: 7, Kind: "placed"}, {Seq: 7, Kind: "placed"}, {Seq: 8, Kind: "moved"}})
	var ids []string
	for line := range strings.Lines(string(st.buf)) {
		if strings.HasPrefix(line, "id:") || strings.HasPrefix(line, "event:") {
			ids = append(ids, strings.TrimSpace(line))
		}
	}
	if got := strings.Join(ids, ","); got != "event: placed,id: s:7,event: placed,id: s:8,event: moved" {
		t.Error(got)
	}
}
