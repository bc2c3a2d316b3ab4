package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tunneldirector/cluster/ca"
	"tunneldirector/integration/lab"
)

// AgentPort is where the lab's directors are dialled by agents.
const AgentPort = 7460

// An Authority certifies a lab's directors and agents.
type Authority struct {
	ca  ca.CA
	dir string
}

// NewAuthority makes one, whose files are in a directory.
func NewAuthority(dir string) (*Authority, error) { return NewAuthorityOf("lab", dir) }

// NewAuthorityOf makes that of a cluster.
func NewAuthorityOf(cluster, dir string) (*Authority, error) {
	a, err := ca.New(cluster, time.Now())
	return &Authority{a, dir}, err
}

// OpenAuthority takes one that `director cluster init` made; the files that it certifies are put into a directory.
func OpenAuthority(authority, dir string) (*Authority, error) {
	a, err := ca.Read(authority)
	return &Authority{a, dir}, err
}

// issue makes somebody's files and names them as configuration files do.
func (a *Authority) issue(role ca.Role, name string) (string, error) {
	i, err := a.ca.Issue(role, name, time.Now(), 24*time.Hour)
	if err != nil {
		return "", err
	}
	f, err := i.Save(a.dir)
	return fmt.Sprintf("{cert: %s, key: %s, ca: %s}", f.Cert, f.Key, f.CA), err
}

// Settings are a director's, who is to hear agents: more of its node file. Of several the name is the title.
func (a *Authority) Settings(l *lab.Lab, director string) (string, error) {
	tls, err := a.issue(ca.RoleDirector, director)
	on := l.Director
	for _, d := range l.Directors {
		if d.Title == director {
			on = d
		}
	}
	return fmt.Sprintf("agents: {listen: [%q], tls: %s}\n", agentsAt(on), tls), err
}

func agentsAt(d *lab.Director) string {
	return netip.AddrPortFrom(d.RS.Addrs[0], AgentPort).String()
}

// An Agent is the agent's program on one of a lab's real servers.
type Agent struct {
	lab    *lab.Lab
	rs     *lab.RealServer
	binary string
	file   string
	log    io.Writer
	p      *lab.Process
}

// AgentOptions say how an agent is run.
type AgentOptions struct {
	Binary     string
	Dir        string // for its files; exists
	Log        io.Writer
	Host       string // default host and the real server's number, as records has it
	Method     string // default dr
	Protocols  []string
	Adopt      string // how it carries orders out, YAML on one line; default: fast
	Terminator string // of its file, YAML on one line; default: the lab's WireGuard
	Settings   string // more of its file; default: it looks each second
}

// NewAgent writes an agent's files.
func NewAgent(l *lab.Lab, rs *lab.RealServer, a *Authority, o AgentOptions) (*Agent, error) {
	if o.Host == "" {
		o.Host = fmt.Sprintf("host%d", rs.Index)
	}
	if o.Method == "" {
		o.Method = "dr"
	}
	if o.Settings == "" {
		o.Settings = "look: 1s"
	}
	if o.Adopt == "" {
		o.Adopt = "{rate: 200/s, burst: 200}"
	}
	if o.Terminator == "" {
		o.Terminator = fmt.Sprintf("{kind: wireguard, device: wg0, socket: %s, sends_from_vip: true}", rs.Control())
	}
	if o.Protocols == nil {
		o.Protocols = []string{fmt.Sprintf("udp/%d", lab.WireGuardPort)}
	}
	tls, err := a.issue(ca.RoleAgent, o.Host)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.Dir, rs.Name)
	var directors []string
	for _, d := range l.Directors {
		directors = append(directors, agentsAt(d))
	}
	text := fmt.Sprintf(`host: %s
directors: ["%s"]
tls: %s
state_dir: %s
adopt: %s
%s
real_servers:
  - name: %s
    vips: [%s]
    method: %s
    interface: %s
    protocols: [%s]
    cpu_ceiling: none # the cores are those of all: what others do is not to make a terminator full
    terminator: %s
`, o.Host, strings.Join(directors, `", "`), tls, dir, o.Adopt, o.Settings, rs.Name, list(l.VIPs), o.Method, rs.DR.Name, strings.Join(o.Protocols, ", "), o.Terminator)
	file := filepath.Join(o.Dir, rs.Name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configure the agent of %s: %w", rs.Name, err)
	}
	return &Agent{lab: l, rs: rs, binary: o.Binary, file: file, log: o.Log}, nil
}

// Start starts the agent.
func (a *Agent) Start() error {
	a.p = a.lab.Command(a.rs.NS, a.binary, "run", "--config", a.file)
	a.p.Cmd.Stdout, a.p.Cmd.Stderr = a.log, a.log
	return a.p.Start()
}

// Stop asks the agent to end, and waits.
func (a *Agent) Stop() error { return a.p.Stop(syscall.SIGTERM, 10*time.Second) }

// Kill kills the agent.
func (a *Agent) Kill() { a.p.Kill() }

// Command runs the agent's command line on its machine and returns what it printed.
func (a *Agent) Command(args ...string) (string, error) {
	var out, faults bytes.Buffer
	p := a.lab.Command(a.rs.NS, a.binary, args...)
	p.Cmd.Stdout, p.Cmd.Stderr = &out, &faults
	if err := p.Run(); err != nil {
		return out.String(), fmt.Errorf("realserver %s: %w: %s", args[0], err, bytes.TrimSpace(faults.Bytes()))
	}
	return out.String(), nil
}

// PID is the agent's process id.
func (a *Agent) PID() int { return a.p.Cmd.Process.Pid }

// Config is the agent's file.
func (a *Agent) Config() string { return a.file }

// Heard waits until a director hears the agents of these real servers and knows all that is established.
func (d *Daemon) Heard(ctx context.Context, established int, servers ...*lab.RealServer) error {
	return d.Until(ctx, func() error {
		s, err := d.Client.Status(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, rs := range servers {
			for _, st := range s.RealServers {
				switch {
				case st.Name != rs.Name:
				case st.Agent == nil || !st.Agent.Connected:
					return fmt.Errorf("the agent of %s is not heard", rs.Name)
				case st.Agent.Health != "working":
					return fmt.Errorf("the terminator of %s is %s: %s", rs.Name, st.Agent.Health, st.Agent.Cause)
				default:
					n += st.Agent.Established
				}
			}
		}
		if n < established {
			return fmt.Errorf("agents tell of %d established tunnels, want %d", n, established)
		}
		return nil
	})
}
