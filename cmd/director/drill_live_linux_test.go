package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// A site is a lab whose directors and agents let drills take place: the live cluster of an operator.
type site struct {
	*testing.T
	*lab.Lab
	d     []*daemon.Daemon
	dir   string
	agent string // its program
}

// TestDrillsLive runs drills as an operator does: by the command line where the target hosts are, on directors and agents that were told to
// let it happen. The failures are made by the programs themselves.
func TestDrillsLive(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("network namespaces take root, and CI has to be root")
		}
		t.Skip("network namespaces take root")
	}
	t.Setenv(asProgram, "1") // of whatever this test starts
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	s := &site{T: t, dir: t.TempDir()}
	s.agent = filepath.Join(s.dir, "realserver")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", s.agent, "../realserver").CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	s.open(ctx)
	go s.manage(ctx)
	all := []string{"host-loss", "director-crash", "partition"}
	if os.Getenv("SOAK") != "" {
		all = []string{"host-loss", "link-cut", "drain", "director-crash", "director-hang", "partition", "vip-move", "rolling-upgrade", "nms-outage", "nms-empty", "host-loss"}
	}
	for i, name := range all {
		var out, told bytes.Buffer
		args := []string{"--socket", s.d[0].Socket(), "drill", "run", name, "--yes", "--keep", filepath.Join(s.dir, "kept")}
		if i%2 == 0 { // else it finds them itself
			for _, x := range s.Sites {
				args = append(args, "--probe", fmt.Sprintf("%s=%s", x.Name, x.Inside[i/2%len(x.Inside)]))
			}
		}
		var refused *exec.ExitError
		for end := time.Now().Add(90 * time.Second); ; time.Sleep(time.Second) { // it does not begin before all is in peace after the one before
			out.Reset()
			told.Reset()
			c := exec.CommandContext(ctx, os.Args[0], args...)
			c.Stdout, c.Stderr = &out, &told
			err := s.Target.Run(c.Run)
			if errors.As(err, &refused) && refused.ExitCode() == console.ExitRefused && time.Now().Before(end) {
				continue
			}
			if err != nil {
				t.Errorf("drill %s: %v\n%s\n%s", name, err, &told, &out)
			}
			break
		}
		t.Logf("%s\n%s", &told, &out)
		for _, d := range s.d {
			l, err := d.Client.Faults(ctx)
			if err != nil || len(l.Faults) > 0 {
				t.Errorf("after %s, %s has in place %+v (%v)", name, d.On().Title, l.Faults, err)
			}
		}
		if !strings.Contains(out.String(), "passed") && !t.Failed() {
			t.Errorf("drill %s did not pass:\n%s", name, &out)
		}
	}
}

// open builds the lab, and brings its tunnels up.
func (s *site) open(ctx context.Context) {
	s.Helper()
	must := func(act string, err error) {
		s.Helper()
		if err != nil {
			s.Fatalf("%s: %v", act, err)
		}
	}
	authority, err := daemon.NewAuthority(s.dir)
	must("make an authority", err)
	var agents []*daemon.Agent
	s.Lab, err = lab.New(context.WithoutCancel(ctx), lab.Options{Directors: 2, Sites: 4, RealServers: 3, IPv6: true, Logger: slog.New(slog.DiscardHandler),
		Prepare: func(l *lab.Lab, rs *lab.RealServer) error {
			a, err := daemon.NewAgent(l, rs, authority, daemon.AgentOptions{Binary: s.agent, Dir: s.dir, Log: s.log(rs.Name), Settings: "look: 1s\ndrill: {allow: true}"})
			if err == nil {
				agents = append(agents, a)
				_, err = a.Command("apply", "--config", a.Config())
			}
			return err
		}})
	must("build a lab", err)
	s.Cleanup(func() {
		if err := s.Close(); err != nil {
			s.Errorf("close the lab: %v", err)
		}
	})
	for _, on := range s.Directors {
		settings, err := authority.Member(s.Lab, on, daemon.Membership{More: "  preempt_after: 2s\n"})
		must("certify a director", err)
		dir := filepath.Join(s.dir, on.Title)
		must("make a directory", os.Mkdir(dir, 0o755))
		d, err := daemon.New(s.Lab, daemon.Options{On: on, Binary: os.Args[0], Dir: dir, Log: s.log(on.Title), Settings: settings + "drill: {allow: true, restarted: true}\n"})
		must("configure a director", err)
		s.d = append(s.d, d)
		must("start a director", d.Launch())
	}
	for _, d := range s.d {
		must("wait for a director", d.Ready(ctx))
	}
	must("apply", s.d[0].Apply(ctx))
	for _, a := range agents {
		must("start an agent", a.Start())
	}
	must("wait until all have the records", s.d[1].Until(ctx, func() error { return daemon.Equal(ctx, s.d...) }))
	for _, x := range s.Sites {
		must("push", s.d[1].Push(ctx, x))
	}
	must("establish", s.Establish(ctx))
	for _, d := range s.d {
		must("hear the agents", d.Heard(ctx, len(s.Sites), s.RealServers...))
	}
	for _, d := range s.d {
		must("settle", d.Until(ctx, func() error {
			w := &liveWorld{client: d.Client}
			st, err := w.ask(ctx)
			if err == nil && st.Unsettled != "" {
				err = fmt.Errorf("%s: %s", d.On().Title, st.Unsettled)
			}
			return err
		}))
	}
}

// log is where a program writes: shown if the test fails.
func (s *site) log(name string) *logFile {
	f, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		s.Fatal(err)
	}
	l := &logFile{f}
	s.Cleanup(func() {
		_ = f.Close()
		if data, err := os.ReadFile(f.Name()); err == nil && s.Failed() {
			s.Logf("%s:\n%s", name, data)
		}
	})
	return l
}

type logFile struct{ *os.File }

// manage starts daemons that have been killed, as who runs them does.
func (s *site) manage(ctx context.Context) {
	for ctx.Err() == nil {
		for _, d := range s.d {
			if !d.Running() {
				_ = d.Launch() // or at the next look
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
}

var _ api.Drills = (*faults)(nil)
