package software

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"tunneldirector/integration/lab"
)

// TincPort is where tinc listens, at the virtual IP, for TCP and UDP.
const TincPort = 655

// A Tinc is tinc 1.0 at all of a lab's sites and real servers, whose one program tells the agent of it.
type Tinc struct {
	Ping, Timeout int // seconds that a peer is left alone, and waited for

	tincd   string
	env     []string
	program string // the agent's
	dir     string // for configurations
	log     io.Writer
	keys    map[string]*rsa.PrivateKey // by node
	sites   []*lab.Site
	beyond  netip.Prefix
}

// NewTinc gets tinc and makes keys. Configurations are kept in a directory.
func NewTinc(ctx context.Context, cache, program, dir string, log io.Writer) (*Tinc, error) {
	paths, env, err := Unpack(ctx, cache, slog.New(slog.DiscardHandler), []string{"tinc"}, "usr/sbin/tincd")
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return nil, err
	}
	return &Tinc{Ping: 20, Timeout: 5, tincd: paths[0], env: env, program: program, dir: dir, log: log, keys: map[string]*rsa.PrivateKey{}}, nil
}

// Know makes keys for these sites, whose tunnels lead to a network; before Serve.
func (t *Tinc) Know(sites []*lab.Site, beyond netip.Prefix) error {
	t.sites, t.beyond = sites, beyond
	nodes := []string{"vip"}
	for _, s := range sites {
		nodes = append(nodes, TincNode(s))
	}
	for _, n := range nodes {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return fmt.Errorf("make a key for tinc: %w", err)
		}
		t.keys[n] = k
	}
	return nil
}

// TincNode is a site's name in tinc.
func TincNode(s *lab.Site) string { return strings.ReplaceAll(s.Name, "-", "_") }

// Ask is the agent's program's argv for a question about a real server's tinc.
func (t *Tinc) Ask(rs *lab.RealServer, verb string) []string {
	return []string{t.program, verb, t.of(rs.Name), t.state(rs)}
}

func (t *Tinc) of(name string) string            { return filepath.Join(t.dir, name+".tinc") }
func (t *Tinc) state(rs *lab.RealServer) string  { return filepath.Join(t.dir, rs.Name+".state") }
func (t *Tinc) pid(dir string) (argument string) { return "--pidfile=" + filepath.Join(dir, "pid") }

// Serve starts tinc on a real server. No two may be started in one second.
func (t *Tinc) Serve(ctx context.Context, l *lab.Lab, rs *lab.RealServer) (*lab.Process, error) {
	dir, state := t.of(rs.Name), t.state(rs)
	nodes := []string{"vip"}
	for _, s := range t.sites {
		nodes = append(nodes, TincNode(s))
	}
	script := func(verb string) string { return fmt.Sprintf("%s %s %s %s\n", t.program, verb, dir, state) }
	err := errors.Join(
		os.MkdirAll(state, 0o700),
		t.configure(dir, "vip", fmt.Sprintf("BindToAddress = %s %d\nStrictSubnets = yes\n", lab.VIP4, TincPort), nodes...),
		tincScript(dir, "tinc-up", script("start")+`ip link set "$INTERFACE" up`),
		tincScript(dir, "host-up", "exec "+script("up")), tincScript(dir, "host-down", "exec "+script("down")))
	if err != nil {
		return nil, err
	}
	p, err := t.start(l, rs.NS, dir, t.pid(state))
	if err == nil {
		err = raise(ctx, rs.NS, "ti0")
	}
	if err == nil {
		err = rs.NS.Route(lab.Covers[0], netip.Addr{}, "ti0")
	}
	return p, err
}

// Call starts tinc at a site.
func (t *Tinc) Call(ctx context.Context, l *lab.Lab, s *lab.Site) (*lab.Process, error) {
	dir := t.of(s.Name)
	err := errors.Join(t.configure(dir, TincNode(s), "ConnectTo = vip\n", "vip", TincNode(s)), tincScript(dir, "tinc-up", `ip link set "$INTERFACE" up`))
	if err != nil {
		return nil, err
	}
	p, err := t.start(l, s.NS, dir, t.pid(dir))
	if err == nil {
		err = raise(ctx, s.NS, "ti0")
	}
	if err == nil {
		err = s.NS.Route(t.beyond, netip.Addr{}, "ti0")
	}
	return p, err
}

func (t *Tinc) start(l *lab.Lab, ns *lab.Namespace, dir, pid string) (*lab.Process, error) {
	p := l.Command(ns, t.tincd, "-D", "-d2", "-c", dir, pid)
	p.Cmd.Env, p.Cmd.Stdout, p.Cmd.Stderr = t.env, t.log, t.log
	return p, p.Start()
}

// configure makes a node's directory, which knows the nodes known.
func (t *Tinc) configure(dir, self, more string, known ...string) error {
	files := map[string]string{
		"tinc.conf":    fmt.Sprintf("Name = %s\nInterface = ti0\nPingInterval = %d\nPingTimeout = %d\n%s", self, t.Ping, t.Timeout, more),
		"rsa_key.priv": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(t.keys[self])})),
	}
	for _, n := range known {
		text := fmt.Sprintf("Address = %s %d\nSubnet = %s\n", lab.VIP4, TincPort, t.beyond)
		for _, s := range t.sites {
			if TincNode(s) == n {
				text = fmt.Sprintf("Subnet = %s\n", s.Subnets[0])
			}
		}
		public := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&t.keys[n].PublicKey)})
		files[filepath.Join("hosts", n)] = text + string(public)
	}
	err := os.MkdirAll(filepath.Join(dir, "hosts"), 0o700)
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return err
}

func tincScript(dir, name, text string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nset -e\n"+text+"\n"), 0o700)
}
