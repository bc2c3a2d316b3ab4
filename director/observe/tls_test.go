package observe

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"tunneldirector/cluster/ca"
	"tunneldirector/director/agent"
)

// credential is a certificate of a cluster, from files.
func credential(t *testing.T, a ca.CA, role ca.Role, name string) *ca.Credential {
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
func TestCertificates(t *testing.T) {
	var own, other ca.CA
	for name, a := range map[string]*ca.CA{"ours": &own, "theirs": &other} {
		made, err := ca.New(name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		*a = made
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := NewBook(nil)
	o := Options{Name: "d1", Log: slog.New(slog.DiscardHandler), Differs: func(agent.Server) []string { return nil },
		May: func(host string, s agent.Server) error {
			if s.Name != "rs-of-"+host {
				return errors.New("it is of another host")
			}
			return nil
		},
		Who: func(ctx context.Context, c net.Conn) (string, error) {
			if err := c.(*tls.Conn).HandshakeContext(ctx); err != nil {
				return "", err
			}
			who, err := ca.Peer(c.(*tls.Conn).ConnectionState())
			return who.Name, err
		}}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	director := credential(t, own, ca.RoleDirector, "d1")
	go func() {
		served <- b.Serve(ctx, tls.NewListener(l, director.ServerConfig(ca.RoleAgent, agent.Protocol)), o)
	}()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	host1 := credential(t, own, ca.RoleAgent, "host1").ClientConfig(ca.RoleDirector, agent.Protocol)
	bare, otherProtocol := host1.Clone(), host1.Clone()
	bare.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	otherProtocol.NextProtos = []string{"h2"}
	for _, c := range []struct {
		name    string
		config  *tls.Config
		rs      string
		welcome bool
		words   string // of the refusal; "": the stream ends without one
	}{
		{"its own real server", host1, "rs-of-host1", true, ""},
		{"another host's", host1, "rs-of-host2", false, "of another host"},
		{"a director's certificate", credential(t, own, ca.RoleDirector, "d1").ClientConfig(ca.RoleDirector, agent.Protocol), "rs-of-d1", false, ""},
		{"another cluster's", trusting(credential(t, other, ca.RoleAgent, "host1").ClientConfig(ca.RoleDirector, agent.Protocol)), "rs-of-host1", false, ""},
		{"no certificate", bare, "rs-of-host1", false, ""},
		{"another protocol", otherProtocol, "rs-of-host1", false, ""},
		{"its own again", host1, "rs-of-host1", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			words, welcome := greet(t, l.Addr().String(), c.config, c.rs)
			if welcome != c.welcome || c.words == "" && words != "" || !strings.Contains(words, c.words) {
				t.Errorf("welcome %v, refused %q", welcome, words)
			}
		})
	}
	for _, a := range b.Agents() {
		if a.RealServer != "rs-of-host1" || a.Host != "host1" {
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

// greet says hello, and is what came of it.
func greet(t *testing.T, address string, config *tls.Config, rs string) (refused string, welcome bool) {
	t.Helper()
	d := tls.Dialer{Config: config}
	raw, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		return "", false
	}
	c := agent.NewConn(raw)
	defer c.Close()
	if err := c.Send(agent.Message{Hello: hello("instance of "+address, rs)}); err != nil {
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
