package main

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"tunneldirector/cluster/ca"
	"tunneldirector/director/agent"
)

// certified is a certificate of a cluster, from files.
func certified(t *testing.T, a ca.CA, role ca.Role, name string) *ca.Credential {
	t.Helper()
	issued, err := a.Issue(role, name, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	files, err := issued.Save(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Open(files, role, name, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Over a network, by certificates: who may speak, and who may not.
func TestAgentsCertificates(t *testing.T) {
	var own, other ca.CA
	for name, a := range map[string]*ca.CA{"ours": &own, "theirs": &other} {
		made, err := ca.New(name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		*a = made
	}
	w := furnished(t) // rs1 is of host node-a, rs2 of node-b
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	director := certified(t, own, ca.RoleDirector, "d1")
	go func() {
		served <- agents{own: director, book: w.agents, listeners: []net.Listener{l}}.serve(ctx, w.d, slog.New(slog.DiscardHandler))
	}()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	nodeA := certified(t, own, ca.RoleAgent, "node-a").ClientConfig(ca.RoleDirector, agent.Protocol)
	bare, otherProtocol := nodeA.Clone(), nodeA.Clone()
	bare.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	otherProtocol.NextProtos = []string{"h2"}
	for _, c := range []struct {
		name    string
		config  *tls.Config
		rs      string
		welcome bool
		words   string // of the refusal; "": the stream ends without one
	}{
		{"its own real server", nodeA, "rs1", true, ""},
		{"another host's", nodeA, "rs2", false, "is of host node-b"},
		{"a director's certificate", certified(t, own, ca.RoleDirector, "d1").ClientConfig(ca.RoleDirector, agent.Protocol), "rs1", false, ""},
		{"another cluster's", trusting(certified(t, other, ca.RoleAgent, "node-a").ClientConfig(ca.RoleDirector, agent.Protocol)), "rs1", false, ""},
		{"no certificate", bare, "rs1", false, ""},
		{"another protocol", otherProtocol, "rs1", false, ""},
		{"its own again", nodeA, "rs1", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			words, welcome := greetDirector(t, l.Addr().String(), c.config, c.rs)
			if welcome != c.welcome || c.words == "" && words != "" || !strings.Contains(words, c.words) {
				t.Errorf("welcome %v, refused %q", welcome, words)
			}
		})
	}
	for _, a := range w.agents.Agents() {
		if a.RealServer != "rs1" || a.Host != "node-a" {
			t.Errorf("%s spoke for %s", a.Host, a.RealServer)
		}
	}
}

// trusting takes any director: it is the director that has to look.
func trusting(c *tls.Config) *tls.Config {
	c.VerifyConnection = nil
	c.InsecureSkipVerify = true
	return c
}

// greetDirector says hello, and is what came of it.
func greetDirector(t *testing.T, address string, config *tls.Config, rs string) (refused string, welcome bool) {
	t.Helper()
	d := tls.Dialer{Config: config}
	raw, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return "", false
	}
	c := agent.NewConn(raw)
	defer c.Close()
	if err := c.Send(agent.Message{Hello: &agent.Hello{Format: agent.Format, Instance: "instance of " + address, RealServers: []agent.Server{{Name: rs, Terminator: "test"}}}}); err != nil {
		return "", false
	}
	m, err := c.Receive()
	if err != nil {
		return "", false
	}
	if m.Refused != nil {
		return m.Refused.Why, false
	}
	return "", m.Welcome != nil
}
