package main

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// asProgram is the command line that makes this test's binary the program.
const asProgram = "REALSERVER_TEST_ARGS"

func TestMain(m *testing.M) {
	if args := os.Getenv(asProgram); args != "" {
		os.Args = append(os.Args[:1], strings.Fields(args)...)
		main()
		return
	}
	os.Exit(m.Run())
}

// lost is a rig whose director is across the wire, and whose agent is a process of its own in the host's namespace: a host that is lost
// is all that is in the agent's namespace.
func lost(t *testing.T) *rig {
	t.Helper()
	g := newRigWith(t, func(g *rig) (l net.Listener, err error) {
		runtime.LockOSThread() // it is not the test's
		defer runtime.UnlockOSThread()
		g.peer.Do(func() { l, err = net.Listen("tcp", "198.51.100.1:0") })
		return l, err
	})
	text, err := os.ReadFile(g.file)
	g.check(err)
	own := regexp.MustCompile(`\n +namespace: \S+`).ReplaceAllString(string(text), "")
	g.write("realserver.yaml", own+"prepare_host: true\ndrill: {allow: true}\n", 0o600)
	g.peer.Route("192.0.2.10/32", "198.51.100.11")
	return g
}

// program starts the agent in the namespace of the host.
func (g *rig) program() *exec.Cmd {
	g.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), asProgram+"=run --config "+g.file)
	g.host.Do(func() { g.check(c.Start()) })
	g.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

// TestHostLoss: nothing of a host that is lost is heard, its agent neither, until the time is over; of an agent that was killed meanwhile,
// until it is started again.
func TestHostLoss(t *testing.T) {
	g := lost(t)
	first := g.program()
	answered := func() bool { _, err := g.probe(); return err == nil }
	silent := func() bool { return !answered() }
	g.eventually("a probe is answered", answered)
	g.eventually("the director hears the agent", func() bool { a, ok := g.book.Agent("rs1"); return ok && a.Connected && a.Whole })

	const lasts = 8 * time.Second
	from := time.Now()
	g.done(g.faultFor("f1", "host-loss", false, lasts))
	if took := time.Since(from); took >= lasts {
		t.Errorf("the director hears after %v that it is made, when it is over", took)
	}
	g.eventually("the host is silent", silent)
	g.done(g.fault("f1", "host-loss", true)) // which is heard when it is over
	if took := time.Since(from); took < lasts {
		t.Errorf("undone after %v, though nothing gets there", took)
	}
	t.Logf("a host loss of %v was undone after %v", lasts, time.Since(from).Round(time.Millisecond))
	g.eventually("a probe is answered again", answered)

	g.done(g.fault("f2", "host-loss", false))
	g.eventually("the host is silent again", silent)
	g.check(first.Process.Kill())
	_ = first.Wait()
	g.program()
	g.eventually("the agent that starts has undone it", answered)
}
