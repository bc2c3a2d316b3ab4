package libreswan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"tunneldirector/integration/lab"
)

const (
	programs = "/usr/libexec/ipsec/"
	certutil = "/usr/bin/certutil"
)

// A Daemon is one pluto.
type Daemon struct {
	dir     string // the machine's /run
	process *lab.Process
}

// Start starts pluto on a machine, with a secret that it shares with all peers, and waits until it can be talked to.
func Start(ctx context.Context, l *lab.Lab, ns *lab.Namespace, g Globals, secret string, connections ...Connection) (*Daemon, error) {
	d := &Daemon{dir: ns.RunDir()}
	if err := d.start(ctx, l, ns, map[string]string{
		"ipsec.conf": configuration(g, connections), "ipsec.secrets": fmt.Sprintf(": PSK %q\n", secret),
	}); err != nil {
		return nil, fmt.Errorf("start pluto in %s: %w", ns.Name, err)
	}
	return d, nil
}

func (d *Daemon) start(ctx context.Context, l *lab.Lab, ns *lab.Namespace, files map[string]string) error {
	for _, dir := range []string{"pluto", "nss", "policies"} {
		if err := os.MkdirAll(d.file(dir), 0o755); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(d.file(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	// Without a resolver's configuration pluto does not start.
	if f, err := os.OpenFile("/etc/resolv.conf", os.O_CREATE|os.O_RDONLY, 0o644); err != nil {
		return err
	} else if err := f.Close(); err != nil {
		return err
	}
	if _, err := command(ctx, certutil, "-N", "-d", "sql:"+d.file("nss"), "--empty-password"); err != nil {
		return err
	}
	d.process = l.Command(ns, programs+"pluto", "--nofork", "--config", "/run/ipsec.conf", "--secretsfile", "/run/ipsec.secrets",
		"--nssdir", "/run/nss", "--ipsecdir", "/run", "--rundir", "/run/pluto", "--logfile", "/run/pluto.log")
	if err := d.process.Start(); err != nil {
		return err
	}
	if err := d.awaitSocket(ctx); err != nil {
		d.process.Kill()
		return fmt.Errorf("%w; it said:\n%s", err, d.Log())
	}
	return nil
}

func (d *Daemon) file(name string) string { return filepath.Join(d.dir, name) }

func (d *Daemon) awaitSocket(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(d.file("pluto/pluto.ctl")); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.process.Done():
			return fmt.Errorf("pluto ended: %w", errors.Join(errors.New("unasked"), d.process.Wait()))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Log is all that pluto has written.
func (d *Daemon) Log() string {
	b, err := os.ReadFile(d.file("pluto.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// whack sends pluto a command and returns what it says.
func (d *Daemon) whack(ctx context.Context, args ...string) (string, error) {
	return command(ctx, programs+"whack", append([]string{"--rundir", d.file("pluto")}, args...)...)
}

func command(ctx context.Context, name string, args ...string) (string, error) {
	var out bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s %v: %w: %s", filepath.Base(name), args, err, bytes.TrimSpace(out.Bytes()))
	}
	return out.String(), nil
}
