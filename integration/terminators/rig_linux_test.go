package terminators

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tunneldirector/director/agent"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/software"
	"tunneldirector/integration/spaces"
	"tunneldirector/realserver/terminator"
)

// A rig is a bare lab of two real servers, with the kernel's routing in the director's place.
type rig struct {
	*testing.T
	*lab.Lab
	standin *lab.Standin
}

func newRig(t *testing.T, o lab.Options) *rig {
	t.Helper()
	spaces.Root(t)
	o.Bare, o.RealServers = true, 2
	r := &rig{T: t}
	var err error
	if r.Lab, err = lab.New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	r.standin, err = r.NewStandin()
	r.must("forward", err)
	return r
}

// userspace skips a test where there is no TUN. The virtual machine has none, and runs what takes its kernel.
func userspace(t *testing.T) {
	t.Helper()
	if os.Getenv("TUNNELDIRECTOR_VM") != "" {
		t.Skip("software in user space is tested on the host")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		spaces.Absent(t, "TUN: "+err.Error())
	}
}

// unpacked returns the programs of Debian's packages, found by their paths in these, and the environment they run in.
func unpacked(t *testing.T, packages []string, names ...string) (paths []string, env []string) {
	t.Helper()
	userspace(t)
	paths, env, err := software.Unpack(t.Context(), filepath.Join("..", "..", "build", "vm"), slog.New(slog.NewTextHandler(t.Output(), nil)), packages, names...)
	if err != nil {
		spaces.Absent(t, err.Error())
	}
	return paths, env
}

// process starts a program on a machine; what it prints is kept for a test that fails.
func (r *rig) process(ns *lab.Namespace, env []string, name string, args ...string) *lab.Process {
	r.Helper()
	p := r.Command(ns, name, args...)
	log, err := os.Create(filepath.Join(r.TempDir(), "log"))
	r.must("keep a log", err)
	r.Cleanup(func() {
		log.Close()
		if text, _ := os.ReadFile(log.Name()); r.Failed() {
			r.Logf("%s in %s:\n%s", filepath.Base(name), ns.Name, text)
		}
	})
	p.Cmd.Env, p.Cmd.Stdout, p.Cmd.Stderr = env, log, log
	r.must("start "+name, p.Start())
	return p
}

// up waits for a device, sets it up, and gives it addresses.
func (r *rig) up(ns *lab.Namespace, dev string, addrs ...string) {
	r.Helper()
	r.until(30*time.Second, dev+" in "+ns.Name, func() error {
		return ns.Run(func() error {
			link, err := netlink.LinkByName(dev)
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(link)
		})
	})
	for _, a := range addrs {
		r.must("hold "+a, ns.Hold(dev, netip.MustParsePrefix(a)))
	}
}

// inner are the networks that the target is in.
func (r *rig) inner() netip.Prefix { return netip.MustParsePrefix("192.0.2.128/25") }

// tunnelOf waits until a terminator tells of a site's tunnel.
func (r *rig) tunnelOf(w terminator.Terminator, s *lab.Site, d time.Duration) agent.Tunnel {
	r.Helper()
	var found agent.Tunnel
	r.until(d, "tunnel of "+s.Name, func() error {
		all, err := w.Tunnels(r.Context())
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(t agent.Tunnel) bool { return t.Endpoint.Addr() == s.Endpoint })
		if i < 0 {
			return fmt.Errorf("it tells of %v", all)
		}
		found = all[i]
		return nil
	})
	return found
}

// inherited is a tunnel as a director hands it on.
func inherited(s *lab.Site, t agent.Tunnel) agent.Inherited {
	return agent.Inherited{ID: s.Name, Peer: t.Peer, Local: s.VIP, Endpoint: t.Endpoint, Subnets: s.Subnets}
}

// flows waits until pings from the target get through to a site, and returns how long after begin the first of them was sent.
func (r *rig) flows(s *lab.Site, begin time.Time, patience time.Duration) time.Duration {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	p, err := r.StartPing(ctx, r.Target.Namespace, r.Target.Inner.Addrs[0], s.Inside[0], 10*time.Millisecond, 0)
	r.must("ping", err)
	for ctx.Err() == nil && p.Received() == 0 {
		time.Sleep(2 * time.Millisecond)
	}
	echoes, err := p.Stop()
	r.must("ping", err)
	took, ok := lab.Restored(echoes, begin)
	if !ok {
		r.Fatalf("%s: nothing got through in %s", s.Name, patience)
	}
	return took
}

func (r *rig) pin(s *lab.Site, rs int) {
	r.Helper()
	r.must("pin "+s.Name, r.standin.Pin(s, r.RealServers[rs]))
}

// until asks until there is no error.
func (r *rig) until(d time.Duration, what string, ask func() error) {
	r.Helper()
	deadline := time.Now().Add(d)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("%s: not within %s: %v", what, d, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (r *rig) must(act string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", act, err)
	}
}

// measured logs a figure.
func measured(t testing.TB, what string, d time.Duration) {
	t.Helper()
	t.Logf("MEASURED %s: %.3f s", what, d.Seconds())
}

var errStill = errors.New("it still tells of the tunnel")

// gone waits until a terminator tells of a site no more.
func (r *rig) gone(w terminator.Terminator, s *lab.Site, d time.Duration) {
	r.Helper()
	r.until(d, s.Name+" gone", func() error {
		all, err := w.Tunnels(r.Context())
		if slices.ContainsFunc(all, func(t agent.Tunnel) bool { return t.Endpoint.Addr() == s.Endpoint }) {
			return errStill
		}
		return err
	})
}
