package ca

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A renewing director answers one connection after another, in memory.
type renewing struct {
	t         *testing.T
	own       *Credential
	want      Role
	authority string
	errs      chan error
}

func (r renewing) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if address == "nowhere" {
		return nil, errors.New("no route")
	}
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		c := tls.Server(server, r.own.ServerConfig(r.want, protocol, RenewProtocol))
		err := c.HandshakeContext(ctx)
		if err == nil {
			dir := r.authority
			if address == "without" {
				dir = ""
			}
			_, err = ServeRenewal(ctx, c, dir)
		}
		r.errs <- err
	}()
	return client, nil
}

func TestRenewalOverTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 365*day))
		a, _ := open(t, issue(t, c, RoleAgent, "node-a", time.Now(), 90*day))
		r := renewing{t, d, RoleAgent, saved(t, c), make(chan error, 9)}
		addresses := []string{"nowhere", "without"}
		ask := Remotely(a, func() []string { return addresses }, r.dial)
		time.Sleep(60 * day)
		err := a.Renew(t.Context(), ask)
		if err == nil || !strings.Contains(err.Error(), "nowhere: no route") || !strings.Contains(err.Error(), "without: the director refuses: this director has no authority") {
			t.Errorf("%v", err)
		}
		if err := <-r.errs; !errors.Is(err, ErrAskAnother) {
			t.Errorf("the director says %v", err)
		}
		addresses = append(addresses, "d1")
		if err := a.Renew(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		if want := time.Now().Add(90 * day); !a.Expires().Equal(want) {
			t.Errorf("until %s, want %s", a.Expires(), want)
		}
		if _, err1, err2 := shake(t, a.ClientConfig(RoleDirector, protocol), d.ServerConfig(RoleAgent, protocol)); err1 != nil || err2 != nil {
			t.Errorf("with the new one: client %v, server %v", err1, err2)
		}
		<-r.errs // without
		<-r.errs // d1
		// Who comes too late is not let in.
		addresses = []string{"d1"}
		time.Sleep(91 * day)
		if err := a.Renew(t.Context(), ask); err == nil {
			t.Error("an expired certificate was renewed")
		}
		if err := <-r.errs; err == nil {
			t.Error("the director let it in")
		}
		addresses = nil
		if err := a.Renew(t.Context(), ask); err == nil || !strings.Contains(err.Error(), "no director is known") {
			t.Errorf("%v", err)
		}
	})
}

// Nobody gets another's certificate, whatever is asked for over an own connection.
func TestRenewalOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 365*day))
		a, _ := open(t, issue(t, c, RoleAgent, "node-a", time.Now(), 90*day))
		r := renewing{t, d, RoleAgent, saved(t, c), make(chan error, 1)}
		ask := Remotely(a, func() []string { return []string{"d1"} }, r.dial)
		for _, id := range []Identity{{"prod", RoleAgent, "node-b"}, {"prod", RoleDirector, "node-a"}, {"prod", RoleDirector, "d1"}} {
			if chain, err := ask(t.Context(), request(t, id)); err == nil || chain != nil || !strings.Contains(err.Error(), "neither name nor role") {
				t.Errorf("%s: %v", id, err)
			}
			<-r.errs
		}
	})
}

// Who says nothing is not waited for, and a stop ends it at once.
func TestRenewalOfTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, other := net.Pipe()
		defer other.Close()
		go func() { _, _ = other.Read(make([]byte, 1000)) }()
		began := time.Now()
		if _, err := AskRenewal(t.Context(), c, []byte("x")); err == nil || time.Since(began) != wireLimit {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		if _, err := AskRenewal(ctx, c, []byte("x")); err == nil || time.Since(began) != time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

// A frame that is too long is refused before room is made for it.
func TestReceiveRefuses(t *testing.T) {
	for _, tt := range []struct {
		frame []byte
		want  byte
		says  string
	}{
		{[]byte{frameChain, 0, 1, 0, 1}, frameChain, "at most 65536"},
		{[]byte{frameRefusal, 0, 0, 0, 2, 'n', 'o'}, frameChain, "the director refuses: no"},
		{[]byte{frameRefusal, 0, 0, 0, 2, 'n', 'o'}, frameRequest, "want 'q'"},
		{[]byte{'x', 0, 0, 0, 0}, frameChain, "want 'c'"},
		{[]byte{frameChain, 0, 0, 0, 2, 'x'}, frameChain, "unexpected EOF"},
	} {
		if _, err := receive(bytes.NewReader(tt.frame), tt.want); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v, want %s", tt.frame, err, tt.says)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte{frameChain, 0, 0, 0, 1, 'x'})
	f.Add([]byte{frameRefusal, 0, 0, 0, 1, 'x'})
	f.Add([]byte{frameChain, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{frameRequest})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := receive(bytes.NewReader(data), frameChain)
		if err == nil && (data[0] != frameChain || !bytes.Equal(got, data[5:5+len(got)])) {
			t.Errorf("%q of %q", got, data)
		}
		if len(got) > maxFrame {
			t.Errorf("%d bytes", len(got))
		}
	})
}
