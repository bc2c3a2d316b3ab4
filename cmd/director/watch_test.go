package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"testing"

	"tunneldirector/affinity"
	"tunneldirector/cmd/console"
)

// Events come in order, over a broken connection, without a gap and without one twice.
func TestWatchResumes(t *testing.T) {
	w := furnished(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, out := io.Pipe()
	notes, told := io.Pipe()
	env := &console.Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: told, Getenv: func(string) string { return "" }, IsTerminal: func(io.Writer) bool { return false }}
	done := make(chan error, 1)
	go func() { done <- director(ctx, env, []string{"watch", "--socket", w.socket}) }()
	lines, words := bufio.NewScanner(r), bufio.NewScanner(notes)
	next := func(s *bufio.Scanner, want string) {
		t.Helper()
		if !s.Scan() || !strings.Contains(s.Text(), want) {
			t.Fatalf("got %q, want %q", s.Text(), want)
		}
	}
	put := func(id string, n byte) {
		t.Helper()
		res, err := w.d.Do(ctx, []affinity.Op{affinity.PutTunnel{By: affinity.Actor{Name: "nms"}, Tunnel: &affinity.Tunnel{ID: id, Service: "ipsec",
			Endpoints: []affinity.Endpoint{netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, n}), 0)}}}})
		if err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
	}
	next(words, "watching from revision store-1:")
	put("a", 1)
	next(lines, "a")
	for ; !strings.Contains(lines.Text(), "placed"); next(lines, "a") {
	}
	go w.hangUp()
	next(words, "connection lost")
	put("b", 2) // while nobody listens
	w.hangUp()
	w.listen()
	go func() { _, _ = io.Copy(io.Discard, notes) }() // it may fail to connect once more
	next(lines, "b")
	for ; !strings.Contains(lines.Text(), "placed"); next(lines, "b") {
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := <-done; err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
}

func TestWatchSince(t *testing.T) {
	w := furnished(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, out := io.Pipe()
	env := &console.Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: io.Discard, Getenv: func(string) string { return "" }, IsTerminal: func(io.Writer) bool { return false }}
	done := make(chan error, 1)
	go func() {
		done <- director(ctx, env, []string{"watch", "--since", "store-1:0", "--json", "--socket", w.socket})
	}()
	var l watchLine
	if err := json.NewDecoder(r).Decode(&l); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(l.Revision, "store-1:") || l.Kind == "" || l.Object == "" {
		t.Errorf("the first event is %+v", l)
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
