package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"tunneldirector/affinity/badgerstore"
	"tunneldirector/cluster/ca"
)

func TestDoor(t *testing.T) {
	d := newDoor()
	host := func(n int) string { return fmt.Sprintf("192.0.2.%d", n) }
	in := 0
	for i := range 2 * maxShakingOf {
		if d.Enter(host(1)) != (i < maxShakingOf) {
			t.Errorf("connection %d of one address", i+1)
		}
	}
	in = maxShakingOf
	for i := range maxShaking {
		if d.Enter(host(2 + i)) {
			in++
		}
	}
	if in != maxShaking || d.Enter(host(100)) {
		t.Errorf("%d at once, and one more", in)
	}
	d.Leave(host(1))
	if !d.Enter(host(100)) || d.Enter(host(101)) {
		t.Error("one left, and not one was let in")
	}
	now := time.Now()
	if !d.says("a", now) || d.says("a", now.Add(59*time.Second)) || !d.says("b", now) || !d.says("a", now.Add(sayAgain)) {
		t.Error("it is not said once a minute")
	}
}

// Who has a director's certificate, and is no member, is not spoken with; who proves nothing does not crowd others out.
func TestWhoIsLetIn(t *testing.T) {
	cfg := firstOf(t)
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	disk, err := badgerstore.Open(t.Context(), badgerstore.Options{Dir: cfg.DataDir})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	j, err := openJoined(cfg, disk, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- j.accept(ctx) }()
	authority, err := ca.Read(cfg.Cluster.Authority)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.Issue(ca.RoleDirector, "d9", time.Now(), ca.Validity)
	if err != nil {
		t.Fatal(err)
	}
	files, err := issued.Save(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ca.Open(files, ca.RoleDirector, "d9", log)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		raw, err := net.Dial("tcp", j.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn := tls.Client(raw, stranger.ClientConfig(ca.RoleDirector, peerProtocol))
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("a stranger read %d bytes: %v", n, err)
		}
		conn.Close()
	}
	var idle []net.Conn
	for range maxShakingOf {
		raw, err := net.Dial("tcp", j.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, raw)
	}
	raw, err := net.Dial("tcp", j.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := raw.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("one more that says nothing: %v", err)
	}
	for _, c := range append(idle, raw) {
		c.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, words := range []string{"gossip does not know it", "too many connections at once"} {
		if n := strings.Count(said.String(), words); n != 1 {
			t.Errorf("%q is said %d times:\n%s", words, n, said.String())
		}
	}
	if _, err := j.answerLiving(t.Context(), "d9", []byte(`{"keys":true}`)); err == nil || !strings.Contains(err.Error(), "not heard") {
		t.Errorf("a stranger's question: %v", err)
	}
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}
