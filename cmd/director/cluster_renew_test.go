package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tunneldirector/cluster/ca"
	"tunneldirector/director/agent"
)

// lockedLog is a log that goroutines share.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Agents renew at the listener of their streams, where the authority is.
func TestRenewalAtTheAgentsListener(t *testing.T) {
	authority, err := ca.New("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "authority")
	if _, err := authority.Save(dir); err != nil {
		t.Fatal(err)
	}
	w := furnished(t)
	own := certified(t, authority, ca.RoleDirector, "d1")
	ctx, cancel := context.WithCancel(t.Context())
	var log lockedLog
	served := make(chan error, 2)
	var addresses []string
	for _, at := range []string{"", dir} { // the first has no authority
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().String())
		go func() {
			served <- agents{own: own, book: w.agents, listeners: []net.Listener{l}, authority: at}.serve(ctx, w.d, slog.New(slog.NewTextHandler(&log, nil)))
		}()
	}
	defer func() {
		cancel()
		if err := errors.Join(<-served, <-served); err != nil {
			t.Error(err)
		}
	}()
	a := certified(t, authority, ca.RoleAgent, "node-a")
	before := a.Expires()
	time.Sleep(1100 * time.Millisecond) // a certificate's times are whole seconds
	ask := ca.Remotely(a, func() []string { return addresses[:1] }, new(net.Dialer).DialContext)
	if err := a.Renew(ctx, ask); err == nil || !strings.Contains(err.Error(), "ask another") {
		t.Errorf("%v", err)
	}
	if err := a.Renew(ctx, ca.Remotely(a, func() []string { return addresses }, new(net.Dialer).DialContext)); err != nil {
		t.Fatal(err)
	}
	if !a.Expires().After(before) || !strings.Contains(log.String(), `identity="agent node-a of cluster prod"`) {
		t.Errorf("until %s, before %s, log:\n%s", a.Expires(), before, &log)
	}
	if words, welcome := greetDirector(t, addresses[1], a.ClientConfig(ca.RoleDirector, agent.Protocol), "rs1"); !welcome {
		t.Errorf("with the new certificate: %q", words)
	}
}
