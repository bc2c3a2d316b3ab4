package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"tunneldirector/director/config"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// allowed is how long the change to a plane may take packets: not at all to ipvs; xdp is attached to the interfaces anew, and
// learns where real servers are, which is half a second on an idle machine and as much as it takes on a busy one.
var allowed = map[string]time.Duration{config.PlaneIPVS: 0, config.PlaneXDP: 15 * time.Second}

const pace = 20 * time.Millisecond // between two packets of a flow

// Established tunnels live through a change of the plane, to and fro.
func TestPlaneIsChangedUnderTraffic(t *testing.T) {
	if os.Getenv("TUNNELDIRECTOR_VM") == "" {
		t.Skip("it takes a kernel with IPVS: run by make test-vm")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if out, err := exec.Command("modprobe", "tun").CombinedOutput(); err != nil { // with it comes its device
		t.Logf("modprobe tun: %v: %s", err, out)
	}
	l, err := lab.New(ctx, lab.Options{Sites: 4, IPv6: true, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	must := func(act string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", act, err)
		}
	}
	var d *daemon.Daemon
	start := func(plane string) {
		t.Helper()
		d, err = daemon.New(l, daemon.Options{Binary: os.Getenv("DIRECTOR"), Dir: dir, Log: t.Output(), Plane: plane})
		must("configure", err)
		must("start", d.Start(ctx))
	}
	start(config.PlaneXDP)
	must("apply", d.Apply(ctx))
	must("push", d.Push(ctx, l.Sites...))
	must("establish", l.Establish(ctx))
	for _, plane := range []string{config.PlaneIPVS, config.PlaneXDP} {
		end := traffic(ctx, t, l)
		time.Sleep(200 * time.Millisecond)
		must("stop", d.Stop())
		start(plane)
		time.Sleep(3 * time.Second) // packets are sent for a while after the other plane is gone
		sent, lost := end()
		t.Logf("MEASURED change_of_plane_lost %d packets of=%d to=%s", lost, sent, plane)
		flows := 2 * len(l.Sites)
		if gap := time.Duration(lost/flows) * pace; gap > allowed[plane] || lost > 0 && allowed[plane] == 0 || sent == 0 {
			t.Errorf("%d of %d packets were lost while plane %s took over: %v of each flow", lost, sent, plane, gap)
		}
		if s, err := d.Client.Status(ctx); err != nil || s.Plane.Kind != plane || !s.Ready {
			t.Errorf("status %+v, %v", s.Plane, err)
		}
	}
}

// traffic pings both ways through all tunnels until the returned function is called.
func traffic(ctx context.Context, t *testing.T, l *lab.Lab) func() (sent, lost int) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var all []*lab.Pinger
	target := l.Target.Inner.Addrs[0]
	for _, s := range l.Sites {
		out, err := l.StartPing(ctx, s.NS, s.Inside[0], target, pace, 0)
		if err != nil {
			t.Fatal(err)
		}
		in, err := l.StartPing(ctx, l.Target.Namespace, target, s.Inside[0], pace, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, out, in)
	}
	return func() (sent, lost int) {
		cancel()
		for _, p := range all {
			echoes, err := p.Stop()
			if err != nil {
				t.Error(err)
			}
			sent, lost = sent+len(echoes), lost+lab.CountLost(echoes)
		}
		return sent, lost
	}
}
