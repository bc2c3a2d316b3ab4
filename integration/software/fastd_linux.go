package software

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"tunneldirector/integration/lab"
)

// FastdPort is where fastd listens, at the virtual IPs.
const FastdPort = 10000

// FastdSocket is where fastd says how it is, as its machine sees it.
const FastdSocket = "/run/fastd.sock"

// A Fastd is fastd at all of a lab's sites and real servers: a layer-2 tunnel each, in which there are addresses of 172.20.0.0/24.
type Fastd struct {
	Clear string // "", or a directory of each real server's own below this one that its fastd includes peers from

	program string
	env     []string
	dir     string // for configurations
	log     io.Writer
	service fastdKey
	sites   map[*lab.Site]fastdKey
}

type fastdKey struct{ secret, public string }

// NewFastd gets fastd and makes keys. Configurations are kept in a directory, as is what it logs.
func NewFastd(ctx context.Context, cache, dir string, log io.Writer) (*Fastd, error) {
	paths, env, err := Unpack(ctx, cache, slog.New(slog.DiscardHandler), []string{"fastd"}, "usr/bin/fastd")
	if err != nil {
		return nil, err
	}
	f := &Fastd{program: paths[0], env: env, dir: dir, log: log, sites: map[*lab.Site]fastdKey{}}
	f.service, err = f.key(ctx)
	return f, err
}

var fastdKeys = regexp.MustCompile(`(?s)Secret: ([0-9a-f]{64}).*Public: ([0-9a-f]{64})`)

func (f *Fastd) key(ctx context.Context) (fastdKey, error) {
	cmd := exec.CommandContext(ctx, f.program, "--generate-key")
	cmd.Env = f.env
	out, err := cmd.Output()
	m := fastdKeys.FindSubmatch(out)
	if err == nil && m == nil {
		err = errors.New("it made none")
	}
	if err != nil {
		return fastdKey{}, fmt.Errorf("make a key for fastd: %w", err)
	}
	return fastdKey{string(m[1]), string(m[2])}, nil
}

// Know makes a key for each site; before Serve.
func (f *Fastd) Know(ctx context.Context, sites []*lab.Site) error {
	for _, s := range sites {
		k, err := f.key(ctx)
		if err != nil {
			return err
		}
		f.sites[s] = k
	}
	return nil
}

// ClearOf is the directory of a real server from which its fastd includes peers.
func (f *Fastd) ClearOf(rs *lab.RealServer) string { return filepath.Join(f.Clear, rs.Name) }

// Serve starts fastd on a real server.
func (f *Fastd) Serve(ctx context.Context, l *lab.Lab, rs *lab.RealServer) (*lab.Process, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "log level debug; interface \"fd0\"; mode tap; mtu 1400; method \"salsa2012+umac\"; secret %q; status socket %q;\n", f.service.secret, FastdSocket)
	for _, vip := range l.VIPs {
		fmt.Fprintf(&b, "bind %s;\n", fastdAt(vip))
	}
	if f.Clear != "" {
		if err := os.MkdirAll(f.ClearOf(rs), 0o755); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "include peers from %q;\n", f.ClearOf(rs))
	}
	for s, k := range f.sites {
		fmt.Fprintf(&b, "peer %q { key %q; }\n", s.Name, k.public)
	}
	p, err := f.start(l, rs.NS, rs.Name, b.String())
	if err == nil {
		err = raise(ctx, rs.NS, "fd0", netip.MustParsePrefix("172.20.0.254/24"))
	}
	for s := range f.sites {
		if err == nil {
			err = rs.NS.Route(s.Subnets[0], netip.AddrFrom4([4]byte{172, 20, 0, byte(s.Index)}), "fd0")
		}
	}
	return p, err
}

// Call starts fastd at a site.
func (f *Fastd) Call(ctx context.Context, l *lab.Lab, s *lab.Site, beyond netip.Prefix) (*lab.Process, error) {
	p, err := f.start(l, s.NS, s.Name, fmt.Sprintf(`log level debug; interface "fd0"; mode tap; mtu 1400; method "salsa2012+umac"; secret %q;
peer "vip" { key %q; remote %s; }
`, f.sites[s].secret, f.service.public, fastdAt(s.VIP)))
	if err == nil {
		err = raise(ctx, s.NS, "fd0", netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 20, 0, byte(s.Index)}), 24))
	}
	if err == nil {
		err = s.NS.Route(beyond, netip.MustParseAddr("172.20.0.254"), "fd0")
	}
	return p, err
}

func (f *Fastd) start(l *lab.Lab, ns *lab.Namespace, name, config string) (*lab.Process, error) {
	file := filepath.Join(f.dir, name+".fastd.conf")
	err := errors.Join(os.MkdirAll(ns.RunDir(), 0o755), os.WriteFile(file, []byte(config), 0o600))
	if err != nil {
		return nil, fmt.Errorf("configure fastd of %s: %w", name, err)
	}
	p := l.Command(ns, f.program, "-c", file)
	p.Cmd.Env, p.Cmd.Stdout, p.Cmd.Stderr = f.env, f.log, f.log
	return p, p.Start()
}

func fastdAt(a netip.Addr) string {
	if a.Is6() {
		return fmt.Sprintf("[%s]:%d", a, FastdPort)
	}
	return fmt.Sprintf("%s:%d", a, FastdPort)
}
