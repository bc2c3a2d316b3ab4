package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"tunneldirector/director/api"
	"tunneldirector/integration/lab"
)

// Options say how a daemon is run.
type Options struct {
	Binary string    // of the director
	Dir    string    // for its configuration; exists
	Data   string    // data directory; "": in Dir
	Log    io.Writer // what it writes; nil: nowhere

	On       *lab.Director // default: the lab's first
	Side     string        // where it stands: tunnel or subnet, and so which interfaces it has; default both
	Plane    string        // default xdp
	Settings string        // more of the node file, in YAML
	NodeFile string        // the whole node file, in YAML; it names the default socket, and none of the above matters
	Records  string        // the whole records file, in YAML; then Service names what it has
	Service  VirtualService
}

// A VirtualService is what the lab's sites dial. The zero value is WireGuard by direct routing.
type VirtualService struct {
	Name      string
	Protocols []string // as the API names them
	Method    string   // default dr
	Unknown   string   // default drop
	Check     string   // of the real servers, as a records file has it: "none", "{udp: 500}"
}

func (o *Options) complete(l *lab.Lab) {
	if o.On == nil {
		o.On = l.Director
	}
	if o.Data == "" {
		o.Data = filepath.Join(o.Dir, "data")
	}
	if o.Plane == "" {
		o.Plane = "xdp"
	}
	s := &o.Service
	if s.Name == "" {
		*s = VirtualService{
			Name: Service, Protocols: []string{fmt.Sprintf("udp/%d", lab.WireGuardPort)},
			Check: fmt.Sprintf("{udp: %d}", lab.WireGuardPort),
		}
	}
	if s.Method == "" {
		s.Method = "dr"
	}
	if s.Unknown == "" {
		s.Unknown = "drop"
	}
}

// A Daemon is the director's program on a lab's director.
type Daemon struct {
	Client *api.Client

	lab  *lab.Lab
	opts Options
	p    *lab.Process // nil: not started yet
}

const socket = "tunneldirector/api.sock" // below the machine's /run

// New writes the configuration.
func New(l *lab.Lab, o Options) (*Daemon, error) {
	o.complete(l)
	if o.NodeFile == "" {
		o.NodeFile = nodeFile(l, o)
	}
	if o.Records == "" {
		o.Records = records(l, o.Service)
	}
	d := &Daemon{lab: l, opts: o}
	err := os.WriteFile(d.file("director.yaml"), []byte(o.NodeFile), 0o644)
	if err == nil {
		err = os.WriteFile(d.file("records.yaml"), []byte(o.Records), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("configure the director: %w", err)
	}
	if err := o.On.Sysctl(map[string]string{
		"ipv4/conf/" + o.On.RS.Name + "/arp_ignore": "1", // towards real servers it must not answer ARP for a VIP
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", // what the plane and the filter let through would leave
	}); err != nil {
		return nil, err
	}
	d.Client, err = api.NewClient(api.ClientOptions{Socket: d.Socket()})
	return d, err
}

func (d *Daemon) file(name string) string { return filepath.Join(d.opts.Dir, name) }

// Config is the director's node file, Data its data directory, On is where it runs.
func (d *Daemon) Config() string    { return d.file("director.yaml") }
func (d *Daemon) Data() string      { return d.opts.Data }
func (d *Daemon) On() *lab.Director { return d.opts.On }

// Launch starts the daemon and does not wait until it is ready.
func (d *Daemon) Launch() error {
	d.p = d.lab.Command(d.opts.On.Namespace, d.opts.Binary, "run", "--config", d.file("director.yaml"))
	d.p.Cmd.Stdout, d.p.Cmd.Stderr = d.opts.Log, d.opts.Log
	return d.p.Start()
}

// Start starts the daemon and waits until it says that it is ready.
func (d *Daemon) Start(ctx context.Context) error {
	if err := d.Launch(); err != nil {
		return err
	}
	return d.Ready(ctx)
}

// Ready waits until the daemon says that it is ready.
func (d *Daemon) Ready(ctx context.Context) error {
	return d.Until(ctx, func() error {
		if err := d.alive(); err != nil {
			return final{err}
		}
		return d.Client.Ready(ctx)
	})
}

// Running tells whether the process lives, stopped ones too.
func (d *Daemon) Running() bool { return d.p != nil && d.alive() == nil }

// Socket is where its API is asked.
func (d *Daemon) Socket() string { return filepath.Join(d.opts.On.RunDir(), socket) }

// alive is an error if the process has ended.
func (d *Daemon) alive() error {
	select {
	case <-d.p.Done():
		return fmt.Errorf("the director ended: %w; its log says why", errors.Join(errors.New("unasked"), d.p.Wait()))
	default:
		return nil
	}
}

// Stop asks the daemon to end, as an operator does, and waits.
func (d *Daemon) Stop() error {
	if err := d.alive(); err != nil {
		return err
	}
	return d.p.Stop(syscall.SIGTERM, 15*time.Second)
}

// Kill kills the daemon; it gets no chance to say a word.
func (d *Daemon) Kill() error {
	if err := d.alive(); err != nil {
		return err
	}
	d.p.Kill()
	return nil
}

// Signal sends the daemon a signal.
func (d *Daemon) Signal(sig os.Signal) error {
	if err := d.alive(); err != nil {
		return err
	}
	return d.p.Cmd.Process.Signal(sig)
}

// Uninstall takes all that a stopped daemon left out of the kernel; the table on disk stays.
func (d *Daemon) Uninstall() error {
	_, err := d.Command("uninstall", "--config", d.file("director.yaml"), "--yes")
	return err
}

// Command runs the director's command line on the director's machine and returns what it printed.
func (d *Daemon) Command(args ...string) (string, error) {
	var out, faults bytes.Buffer
	p := d.lab.Command(d.opts.On.Namespace, d.opts.Binary, args...)
	p.Cmd.Stdout, p.Cmd.Stderr = &out, &faults
	if err := p.Run(); err != nil {
		return out.String(), fmt.Errorf("director %s: %w: %s", args[0], err, bytes.TrimSpace(faults.Bytes()))
	}
	return out.String(), nil
}

// Apply makes the lab's service, tenant and real servers known by `director apply`, and waits until all real servers
// are seen alive.
func (d *Daemon) Apply(ctx context.Context) error {
	if _, err := d.Command("apply", d.file("records.yaml")); err != nil {
		return err
	}
	return d.Until(ctx, func() error {
		list, err := d.Client.RealServers(ctx)
		if err != nil {
			return err
		}
		if len(list) != len(d.lab.RealServers) {
			return final{fmt.Errorf("applied %d real servers, the director knows %d", len(d.lab.RealServers), len(list))}
		}
		for _, r := range list {
			if r.State != "alive" {
				return fmt.Errorf("real server %s is %s: %s", r.Name, r.State, r.Cause)
			}
		}
		return nil
	})
}

// A final error is one that waiting does not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// Until asks every 20 ms until there is no error, or ctx ends: then the last error is returned.
func (d *Daemon) Until(ctx context.Context, ask func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		var f final
		if err == nil || errors.As(err, &f) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited until %w: %w", ctx.Err(), err)
		}
	}
}
