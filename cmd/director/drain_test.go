package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/agent"
	"tunneldirector/director/api"
)

// loaded has n tunnels at rs1.
func loaded(t *testing.T, n int) *world {
	t.Helper()
	w := furnished(t)
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"id":"site-%d","service":"ipsec","endpoints":["203.0.113.%d"]}`+"\n", i, i+1)
	}
	w.run("realserver", "drain", "rs2", "rs3").Exits(console.ExitOK)
	w.feed(lines.String(), "tunnel", "import", "-").Exits(console.ExitOK)
	w.run("realserver", "undrain", "rs2", "rs3").Exits(console.ExitOK)
	return w
}

func TestDrainMoves(t *testing.T) {
	w := loaded(t, 30)
	w.run("realserver", "drain", "rs1").Exits(console.ExitOK, "real server rs1 drained: no new tunnels; those that it has stay")
	w.run("realserver", "undrain", "rs1").Exits(console.ExitOK)
	w.agentOf("rs3", "node-c", agent.Load{Permille: 1500, Full: true})
	w.run("realserver", "drain", "rs1", "--deadline", "2h").
		Exits(console.ExitOK, "real server rs1 drained: 30 of 30 tunnels left, the rest at ", "room at rs2: no limit", "no room at rs3: it is full: 150 % of its limit")
	w.run("realserver", "list").Exits(console.ExitOK, "rs1 is drained: 30 of 30 tunnels left, the rest at ")
	w.run("realserver", "show", "rs1").Exits(console.ExitOK, "drain        30 of 30 tunnels left")
	w.run("realserver", "drain", "rs1", "--rate", "1000/s", "--watch").Exits(console.ExitOK, "left, moved at 1000/s, empty by ", "rs1: it has no tunnels any more")
	w.run("tunnel", "list", "--realserver", "rs1").Exits(console.ExitOK).Tells("no tunnels")
	w.run("realserver", "drain", "rs1", "--rate", "1000/s").Exits(console.ExitOK, "real server rs1 is drained so already: it has no tunnels any more")
	w.run("realserver", "drain", "rs1", "--rate", "5", "--json", "--watch").Exits(console.ExitOK, `{"object":"real server rs1","changed":true`, `"rate":5}`, `"room":[{"real_server":"rs2"},{"real_server":"rs3","closed":"it is full`,
		`{"real_server":"rs1","empty":true,"drain":{`)
}

func TestDrainFaults(t *testing.T) {
	w := loaded(t, 3)
	steps := []struct {
		args string
		code int
		errs []string
	}{
		{"realserver drain rs1 --rate 0", console.ExitRefused, []string{"field    rate", "value    0", "moves nothing, ever", "or give a deadline too"}},
		{"realserver drain rs1 --rate -5", console.ExitRefused, []string{"value    -5", "is negative"}},
		{"realserver drain rs1 --rate 20/min", console.ExitRefused, []string{"unknown unit", "remedy   tunnels a second, like 20/s or 0.5/s"}},
		{"realserver drain rs1 --rate 1001", console.ExitRefused, []string{"is over 1000/s"}},
		{"realserver drain rs1 --deadline 2020-01-01T00:00:00Z", console.ExitRefused, []string{"field    deadline", "is over already"}},
		{"realserver drain rs1 --deadline 31d", console.ExitRefused, []string{"neither a time nor a duration", "like 2h"}},
		{"realserver drain rs1 --deadline 721h", console.ExitRefused, []string{"over 30 days"}},
		{"realserver drain rs1 --deadline 721h --json", console.ExitRefused, []string{`"field":"deadline"`, `"exit_code":3`}},
		{"realserver drain rs1 --rate=", console.ExitUsage, []string{"--rate is empty"}},
		{"realserver drain rs1 --watch", console.ExitUsage, []string{"--watch: nothing moves without --rate or --deadline"}},
		{"realserver drain --rate 5/s", console.ExitUsage, []string{"lacks NAME..."}},
		{"realserver drain rs9 --rate 5/s --watch", console.ExitRefused, []string{"rs9"}},
		{"realserver drain rs9 rs3 --rate 5/s --watch", console.ExitPartly, []string{"rs9"}},
	}
	for _, s := range steps {
		w.run(strings.Fields(s.args)...).Exits(s.code).Tells(s.errs...)
	}
	w.run("realserver", "undrain", "rs3").Exits(console.ExitOK)
	w.feed("services:\n- {name: ipsec, vips: [192.0.2.10], protocols: [esp, udp/500, udp/4500], max_unavailable: 1}\n", "apply", "-").Exits(console.ExitOK)
	w.run("realserver", "drain", "rs1", "rs2", "--deadline", "1h").Exits(console.ExitPartly, "real server rs1 drained").
		Tells("rs2: Conflict", "service ipsec has max_unavailable 1, and there are rs1 drained", "undrain one of them first")
}

// Watching ends by Ctrl-C, which the drain does not, and when somebody else changes the drain.
func TestDrainWatchEnds(t *testing.T) {
	w := loaded(t, 2)
	for _, tt := range []struct {
		name  string
		end   func(cancel func())
		code  int
		tells string
		goes  bool // on
	}{
		{"interrupted", func(cancel func()) { cancel() }, console.ExitInterrupted, "the drain goes on; director realserver undrain ends it", true},
		{"undrained", func(func()) { w.run("realserver", "undrain", "rs1").Exits(console.ExitOK) }, console.ExitFailed, "real server rs1 is not emptied any more", false},
		{"removed", func(func()) { w.run("realserver", "rm", "rs1", "--force").Exits(console.ExitOK) }, console.ExitFailed, "real server rs1 was removed meanwhile", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out, done := make(chan string, 100), make(chan error, 1)
			var errOut bytes.Buffer
			env := &console.Env{Stdout: lines(out), Stderr: &errOut, Getenv: func(string) string { return "" }, IsTerminal: func(io.Writer) bool { return false }, Now: time.Now}
			go func() {
				done <- director(ctx, env, []string{"--socket", w.socket, "realserver", "drain", "rs1", "--deadline", "1h", "--watch"})
			}()
			if said := next(t, out); !strings.Contains(said, "2 of 2 tunnels left") {
				t.Errorf("told is %q", said)
			}
			tt.end(cancel)
			if code := report(env, next(t, done)); code != tt.code || !strings.Contains(errOut.String(), tt.tells) {
				t.Errorf("exits with %d, want %d: %s", code, tt.code, errOut.String())
			}
			rs, ok := w.d.Table().RealServer("rs1")
			if goes := ok && rs.Drain != nil; goes != tt.goes {
				t.Errorf("the drain goes on: %v", goes)
			}
		})
	}
}

// A director that does not answer for a while does not end the watching.
func TestDrainWatchAsksAgain(t *testing.T) {
	w := loaded(t, 2)
	w.run("realserver", "drain", "rs1", "--deadline", "1h").Exits(console.ExitOK)
	w.hangUp()
	lost, out := make(chan string, 100), bytes.Buffer{}
	env := &console.Env{Stdout: &out, Stderr: lines(lost), Getenv: func(string) string { return "" }, IsTerminal: func(io.Writer) bool { return true }, Now: time.Now}
	client, err := api.NewClient(api.ClientOptions{Socket: w.socket})
	if err != nil {
		t.Fatal(err)
	}
	d := drainWatch{t: &talk{Env: env, client: client, Context: cli.NewContext(cli.NewApp(), flag.NewFlagSet("", 0), nil)}, names: []string{"rs1"},
		every: 20 * time.Millisecond, told: map[string]tellDrain{}}
	done := make(chan error, 1)
	go func() { done <- d.run(t.Context()) }()
	if said := next(t, lost); !strings.Contains(said, "connection lost") || !strings.Contains(said, "asking again, the drain goes on") {
		t.Errorf("told is %q", said)
	}
	w.listen()
	if said := next(t, lost); !strings.Contains(said, "draining") {
		t.Errorf("told is %q, wanted the bar", said)
	}
	w.run("realserver", "drain", "rs1", "--rate", "1000/s").Exits(console.ExitOK)
	if err := next(t, done); err != nil || !strings.Contains(out.String(), "rs1: it has no tunnels any more") {
		t.Errorf("%v, printed %q", err, out.String())
	}
}

// next takes from a channel, and does not wait for ever.
func next[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

// lines hands on what is written, and drops what nobody takes.
type lines chan<- string

func (l lines) Write(b []byte) (int, error) {
	select {
	case l <- string(b):
	default:
	}
	return len(b), nil
}
