package strongswan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/strongswan/govici/vici"

	"tunneldirector/integration/lab"
)

const program = "/usr/lib/ipsec/charon"

// Retransmits are when charon sends a request again and when it gives the peer up: after Timeout, then each time Base times
// as long, Tries times.
type Retransmits struct {
	Timeout time.Duration
	Base    float64
	Tries   int
}

// Patience is how long a peer may be silent before it is given up.
func (r Retransmits) Patience() time.Duration {
	var all time.Duration
	for i, d := 0, float64(r.Timeout); i <= r.Tries; i, d = i+1, d*r.Base {
		all += time.Duration(d)
	}
	return all
}

// A Daemon is one charon.
type Daemon struct {
	dir     string // the machine's /run
	process *lab.Process
	session *vici.Session
}

// A Software is where charon comes from and how it carries packets. The zero value is one that is installed, on a kernel with
// IPsec.
type Software struct {
	Packages  []string // directories of unpacked packages, seen by charon alone
	Userspace bool     // it carries ESP in UDP itself (kernel-libipsec)
	Crowd     bool     // it stands for many sites: that they all hear of one peer at once is no attack
}

// Start starts an installed charon on a machine and waits until it can be talked to.
func Start(ctx context.Context, l *lab.Lab, ns *lab.Namespace, r Retransmits) (*Daemon, error) {
	return Software{}.Start(ctx, l, ns, r)
}

// Start starts charon on a machine and waits until it can be talked to.
func (s Software) Start(ctx context.Context, l *lab.Lab, ns *lab.Namespace, r Retransmits) (*Daemon, error) {
	d := &Daemon{dir: ns.RunDir(), process: s.command(l, ns)}
	d.process.Cmd.Env = append(os.Environ(), "STRONGSWAN_CONF=/run/strongswan.conf")
	// What an earlier one left: a pid file keeps charon from starting.
	for _, f := range []string{"charon.vici", "charon.pid"} {
		if err := os.Remove(d.file(f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("start charon in %s: %w", ns.Name, err)
		}
	}
	err := os.MkdirAll(d.dir, 0o755)
	if err == nil {
		err = os.WriteFile(d.file("strongswan.conf"), []byte(s.settings(r)), 0o644)
	}
	if err == nil {
		err = d.process.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start charon in %s: %w", ns.Name, err)
	}
	if d.session, err = d.dial(ctx); err != nil {
		d.process.Kill()
		return nil, fmt.Errorf("start charon in %s: %w; it said:\n%s", ns.Name, err, d.Log())
	}
	return d, nil
}

// command lays the packages over /usr/lib in the mount namespace that the process has to itself.
func (s Software) command(l *lab.Lab, ns *lab.Namespace) *lab.Process {
	if len(s.Packages) == 0 {
		return l.Command(ns, program)
	}
	var layers []string
	for _, dir := range append(slices.Clone(s.Packages), "/") {
		if at := filepath.Join(dir, "usr/lib"); isDir(at) {
			layers = append(layers, at)
		}
	}
	return l.Command(ns, "/bin/sh", "-c", `mount -t overlay packages -o "lowerdir=$1" /usr/lib && exec "$0"`, program, strings.Join(layers, ":"))
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// Socket is charon's, of VICI.
func (d *Daemon) Socket() string { return d.file("charon.vici") }

func (d *Daemon) file(name string) string { return filepath.Join(d.dir, name) }

// dial tries until charon listens, or ctx or charon ends.
func (d *Daemon) dial(ctx context.Context) (*vici.Session, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := vici.NewSession(vici.WithAddr("unix", d.file("charon.vici")))
		if err == nil {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-d.process.Done():
			return nil, fmt.Errorf("charon ended: %w", errors.Join(errors.New("unasked"), d.process.Wait()))
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// Log is all that charon has written.
func (d *Daemon) Log() string {
	b, err := os.ReadFile(d.file("charon.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Stop asks charon to end: it tells its peers.
func (d *Daemon) Stop() error {
	return errors.Join(d.session.Close(), d.process.Stop(syscall.SIGTERM, 10*time.Second))
}

// Kill ends charon without a word to anybody. What it put into the kernel stays.
func (d *Daemon) Kill() {
	_ = d.session.Close() // with the daemon gone it has nothing to lose
	d.process.Kill()
}

// settings are strongswan.conf. OpenSSL's plugin has all the cryptography but one, and certificates. What IKE messages hold is not
// logged: the probes of a director are many.
func (s Software) settings(r Retransmits) string {
	kernel, routes, wary := "kernel-netlink", "no", "yes"
	if s.Crowd {
		wary = "no"
	}
	if s.Userspace { // packets come to its TUN device by routes
		kernel, routes = "kernel-libipsec kernel-netlink", "yes"
	}
	return fmt.Sprintf(`charon {
  load = random nonce openssl kdf pem pkcs8 pubkey %s socket-default vici
  retransmit_timeout = %.2f
  retransmit_base = %.2f
  retransmit_tries = %d
  install_routes = %s
  install_virtual_ip = no
  dos_protection = %s
  plugins {
    vici {
      socket = unix:///run/charon.vici
    }
  }
  filelog {
    all {
      path = /run/charon.log
      default = 1
      net = 0
      enc = 0
      flush_line = yes
      time_format = %%s
      time_add_ms = yes
    }
  }
}
`, kernel, r.Timeout.Seconds(), r.Base, r.Tries, routes, wary)
}
