package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
	"tunneldirector/director/journal"
)

// keeping is a world whose director d1 has a journal with n events: one an hour up to now.
func keeping(t *testing.T, n int) (*world, *journal.Journal) {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), Director: "d1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	now := time.Now()
	changed := j.Changed()
	for i := range n {
		j.Record([]api.Event{{Time: now.Add(-time.Duration(n-1-i)*time.Hour - time.Minute), Kind: []string{"moved", "peer"}[i%2], Object: fmt.Sprintf("o%d", i), From: "rs1", To: "rs2", Why: "failed-over", By: "nms"}})
	}
	<-changed
	w := newWorld(t)
	w.hangUp()
	w.server = api.New(w.d, api.Options{Name: "d1", Journal: j})
	w.listen()
	return w, j
}

func TestEvents(t *testing.T) {
	w, _ := keeping(t, 30)
	for _, tt := range []struct {
		args string
		want string // objects
		says string
	}{
		{"--limit 2", "o28 o29", "there are older ones"},
		{"--since 2h", "o28 o29", "2 events of director d1"},
		{"--since 0.125d --until 1h", "o27 o28", ""},
		{"--since 3h --kind peer", "o27 o29", ""},
		{"--object o7", "o7", ""},
		{"--object rs2 -n 1", "o29", ""},
		{"--by local", "", "director d1 has no such events on disk"},
		{"--limit 0 --kind moved --until 20h", "o0 o2 o4 o6 o8", ""},
	} {
		res := w.run(append([]string{"events"}, strings.Fields(tt.args)...)...).Exits(console.ExitOK)
		var got []string
		for line := range strings.Lines(res.Out) {
			got = append(got, strings.Fields(line)[3])
		}
		if strings.Join(got, " ") != tt.want || !strings.Contains(res.ErrOut, tt.says) {
			t.Errorf("%s: %q, %s", tt.args, got, res.ErrOut)
		}
	}
	res := w.run("events", "--limit", "1", "--json").Exits(console.ExitOK)
	var e api.Recorded
	if err := json.Unmarshal([]byte(res.Out), &e); err != nil || e.Object != "o29" || e.Position == "" || res.ErrOut != "" {
		t.Errorf("as JSON: %s %v %s", res.Out, err, res.ErrOut)
	}
	for args, says := range map[string]string{"--since yesterday": "is neither a duration", "--limit -1": "between 0", "--limit 10001": "between 0", "--follow --until 1h": "say one of them"} {
		if res := w.run(append([]string{"events"}, strings.Fields(args)...)...).Exits(console.ExitUsage); !strings.Contains(res.ErrOut, says) {
			t.Errorf("%s: %s", args, res.ErrOut)
		}
	}
	if res := w.run("events", "--kind", "deaths").Exits(console.ExitRefused); !strings.Contains(res.ErrOut, "one of tunnel-put") {
		t.Errorf("an unknown kind: %s", res.ErrOut)
	}
}

// What happens is printed as it does, over a broken connection, without a gap and without one twice.
func TestEventsFollow(t *testing.T) {
	w, j := keeping(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, out := io.Pipe()
	notes, told := io.Pipe()
	env := &console.Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: told, Getenv: func(string) string { return "" }, IsTerminal: func(io.Writer) bool { return false }, Now: time.Now}
	done := make(chan error, 1)
	go func() {
		done <- director(ctx, env, []string{"events", "--follow", "--limit", "1", "--socket", w.socket})
	}()
	lines, words := bufio.NewScanner(r), bufio.NewScanner(notes)
	next := func(s *bufio.Scanner, want string) {
		t.Helper()
		if !s.Scan() || !strings.Contains(s.Text(), want) {
			t.Fatalf("got %q, want %q", s.Text(), want)
		}
	}
	next(lines, "o2")
	next(words, "1 event of director d1")
	next(words, "there are older ones")
	j.Note("peer", "first", "")
	next(lines, "first")
	go w.hangUp()
	next(words, "connection lost")
	j.Note("peer", "second", "")
	w.hangUp()
	w.listen()
	go func() { _, _ = io.Copy(io.Discard, notes) }() // it may fail to connect once more
	next(lines, "second")
	j.Note("peer", "third", "")
	next(lines, "third")
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := <-done; err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
}

func TestRecordedWords(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	for _, tt := range []struct {
		e    api.Recorded
		want string
	}{
		{api.Recorded{Kind: "moved", Object: "site-1", From: "rs1", To: "rs2", Backup: "rs3", Why: "drained", By: "ops"}, "moved           site-1  rs1 -> rs2  backup rs3  (drained)  by ops"},
		{api.Recorded{Kind: "placed", By: "nms", Count: 4000, First: "a", Last: "z"}, "placed          4,000 from a to z  by nms"},
		{api.Recorded{Kind: "refused", Count: 2, First: "a", Last: "a", Why: "w"}, "refused         2 times a  (w)"},
		{api.Recorded{Kind: "assigner", Object: "d2", From: "d1", To: "d2"}, "assigner        d2  d1 -> d2"},
		{api.Recorded{Kind: "assigner", Object: "d2", To: "d2"}, "assigner        d2"},
		{api.Recorded{Kind: "address", Object: "192.0.2.1", From: "d1", Why: "given up"}, "address         192.0.2.1  was d1  (given up)"},
	} {
		tt.e.Time = at
		if got := recordedWords(&tt.e); got != "2026-01-02 03:04:05.006  "+tt.want {
			t.Errorf("%s", got)
		}
	}
	for s, want := range map[string]time.Time{"": {}, "90m": at.Add(-90 * time.Minute), "2d": at.Add(-48 * time.Hour), "2026-01-02": at.Truncate(24 * time.Hour), "2026-01-02 03:04": at.Truncate(time.Minute), "2026-01-02T05:04:05+02:00": at.Truncate(time.Second)} {
		if got, err := parseTime("since", s, at); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
}
