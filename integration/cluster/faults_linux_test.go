package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunneldirector/director/api"
	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
)

// preempt is how long a director that comes back waits here before it takes its addresses: in the labs' files, not by default.
const preempt = 2 * time.Second

// A part is something that befalls a cluster of three directors and four agents, with packets through real tunnels all along. It leaves
// all as it was, and runs alone, too.
type part struct {
	name string
	do   func(*rig)
}

// TestFaults: who dies, hangs, goes or is cut off.
func TestFaults(t *testing.T) {
	t.Parallel()
	newFaults(t).parts([]part{
		{"one path of two", (*rig).pathLost},
		{"killed", (*rig).killed},
		{"host lost", (*rig).hostLost},
		{"stopped", (*rig).stopped},
		{"leaves", (*rig).leaves},
		{"mute", (*rig).mute},
		{"one reaches no real server", (*rig).unreaching},
		{"real server dies", (*rig).realServerDies},
	})
}

// TestTables: what may happen to what directors know.
func TestTables(t *testing.T) {
	t.Parallel()
	newFaults(t).parts([]part{
		{"partition", (*rig).partition},
		{"full disk", (*rig).fullDisk},
		{"old copy", (*rig).oldCopy},
		{"empty", (*rig).empty},
		{"upgrade", (*rig).upgrade},
	})
}

func (r *rig) parts(all []part) {
	r.Helper()
	for _, p := range all {
		ok := r.Run(p.name, func(t *testing.T) {
			one := r.with(t)
			one.settle()
			p.do(one)
			one.settle()
			one.tables(one.d...)
		})
		if !ok {
			for _, d := range r.d {
				out, err := d.Command("cluster", "status")
				r.Logf("%s: %v\n%s", d.On().Title, err, out)
			}
			return
		}
	}
}

func newFaults(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	var err error
	r.authority, err = daemon.NewAuthority(r.dir)
	r.must("make an authority", err)
	r.newLab(lab.Options{Directors: 3, Sites: 8, SiteNamespaces: 2, RealServers: 4, IPv6: true})
	small := r.disk()
	for _, d := range r.Directors {
		o := daemon.Options{}
		if d == r.Directors[2] {
			o.Data = small + "/data"
		}
		r.member(d, daemon.Membership{More: fmt.Sprintf("  preempt_after: %v\n", preempt)}, o)
	}
	r.launch(r.d...)
	r.tunnels()
	return r
}

// disk is a file system of its own, for the third director's table.
func (r *rig) disk() string {
	r.Helper()
	dir := r.TempDir()
	r.must("mount a file system", unix.Mount("tmpfs", dir, "tmpfs", 0, "size=768m"))
	r.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			r.Error(err)
		}
	})
	return dir
}

// pathLost cuts the directors' own network, then the way of heartbeats over the real servers': the other one is there.
func (r *rig) pathLost() {
	for _, way := range []func(*lab.Director) lab.Port{
		func(d *lab.Director) lab.Port { return d.Mgmt }, func(d *lab.Director) lab.Port { return d.RS },
	} {
		name := way(r.Director).Name
		f := r.flow(r.Sites...)
		heal := r.cut(r.Directors[:1], r.Directors[1:], way)
		r.rest(3 * time.Second)
		r.until(15*time.Second, "be whole without "+name, r.whole)
		heal()
		r.settle()
		f.end("path lost: " + name).lossless(r)
	}
}

// whole demands that all directors are alive to each other, that the first assigns, and that each has its addresses.
func (r *rig) whole() error {
	for _, d := range r.d {
		st, err := d.Client.Cluster(r.ctx)
		if err != nil {
			return err
		}
		for _, m := range st.Members {
			if m.State != api.MemberAlive {
				return fmt.Errorf("%s calls %s %s", d.On().Title, m.Name, m.State)
			}
		}
		if err := r.assigns(d, "d1"); err != nil {
			return err
		}
	}
	return r.heldBy(r.owned())
}

// cut drops what either of two sets of directors sends to the other, on some networks (none: on both), until the function is called.
func (r *rig) cut(some, others []*lab.Director, ways ...func(*lab.Director) lab.Port) (heal func()) {
	r.Helper()
	h1, h2 := r.cutOneWay(some, others, ways...), r.cutOneWay(others, some, ways...)
	return func() { h1(); h2() }
}

func (r *rig) cutOneWay(from, to []*lab.Director, ways ...func(*lab.Director) lab.Port) (heal func()) {
	r.Helper()
	if len(ways) == 0 {
		ways = []func(*lab.Director) lab.Port{func(d *lab.Director) lab.Port { return d.Mgmt }, func(d *lab.Director) lab.Port { return d.RS }}
	}
	var lifts []func() error
	for _, way := range ways {
		var addrs []netip.Addr
		for _, d := range to {
			addrs = append(addrs, way(d).Addrs[0])
		}
		for _, d := range from {
			lift, err := r.Block(way(d), addrs...)
			r.must("cut", err)
			lifts = append(lifts, lift)
		}
	}
	return func() {
		for _, lift := range lifts {
			r.must("mend a cut", lift())
		}
	}
}

// killed kills the daemon of a VIP's owner: its kernel goes on forwarding, another director takes the addresses over.
func (r *rig) killed() {
	d := r.d[0]
	f := r.flow(r.Sites...)
	w := r.watch(r.VIPs[0], r.Directors[1])
	r.must("kill", d.Kill())
	w.report("killed", time.Now())
	r.gone(d)
	f.end("killed").lossless(r)
	r.until(15*time.Second, "have the next one assign", func() error { return r.assigns(r.d[1], "d2") })
	f = r.flow(r.Sites...)
	r.launch(d)
	r.settle()
	f.end("started again").lossless(r)
}

// gone waits until all that a director held is with others, and its own kernel has dropped it.
func (r *rig) gone(d *daemon.Daemon) {
	r.Helper()
	r.until(40*time.Second, "wait until "+d.On().Title+"'s addresses are elsewhere alone", func() error { return r.heldBy(r.without(d.On().Title)) })
}

// hostLost pulls the cables of a VIP's owner and kills it: what is lost is what comes before another director has the VIP.
func (r *rig) hostLost() {
	d := r.d[0]
	f := r.flow(r.Sites...)
	w := r.watch(r.VIPs[0], r.Directors[1])
	for _, p := range r.ports(d.On()) {
		r.must("pull a cable", r.SetCable(p, false))
	}
	at := time.Now()
	r.must("kill", d.Kill())
	w.report("host lost", at)
	r.until(40*time.Second, "wait until others hold its addresses", func() error { return r.heldBy(r.without("d1"), "d1") })
	r.rest(500 * time.Millisecond)
	f.end("host lost").still(r)
	r.until(40*time.Second, "wait until its own kernel has dropped them", func() error { return r.heldBy(r.without("d1")) })
	f = r.flow(r.Sites...)
	for _, p := range r.ports(d.On()) {
		r.must("plug a cable in", r.SetCable(p, true))
	}
	r.launch(d)
	r.settle()
	f.end("host comes back").lossless(r)
}

func (r *rig) ports(d *lab.Director) []lab.Port { return []lab.Port{d.Sites, d.RS, d.Inner, d.Mgmt} }

// stopped stops the daemon of a VIP's owner for a while: it is not dead, and says nothing. Its kernel drops the address; when it
// goes on, it takes the address back only by the rules.
func (r *rig) stopped() {
	d := r.d[0]
	f := r.flow(r.Sites...)
	w := r.watch(r.VIPs[0], r.Directors[1])
	r.must("stop", d.Signal(syscall.SIGSTOP))
	w.report("stopped", time.Now())
	r.gone(d)
	f.end("stopped").lossless(r)
	f = r.flow(r.Sites...)
	at := time.Now()
	r.must("let go on", d.Signal(syscall.SIGCONT))
	r.comesBack(d, at)
	f.end("goes on").lossless(r)
}

// comesBack waits until a director that was not well until a time has its addresses again, and demands that it waited before it took
// them.
func (r *rig) comesBack(d *daemon.Daemon, at time.Time) {
	r.Helper()
	for a, name := range r.owned() {
		if name != d.On().Title {
			continue
		}
		r.until(40*time.Second, "wait until it has "+a.String()+" again", func() error {
			if got, err := daemon.Holds(d.On(), a); err != nil || !got {
				return errors.Join(errNotYet, err)
			}
			return nil
		})
		if took := time.Since(at); took < preempt {
			r.Errorf("%s had %s again after %v, which is sooner than preempt_after, %v", name, a, took, preempt)
		}
	}
	r.settle()
}

// leaves stops the daemon as an operator does: it goes when others hold what it held.
func (r *rig) leaves() {
	d := r.d[0]
	f := r.flow(r.Sites...)
	w := r.watch(r.VIPs[0], r.Directors[1])
	at := time.Now()
	r.must("stop", d.Stop())
	r.Logf("it took %.2f s to leave", time.Since(at).Seconds())
	w.report("leaves", at)
	r.must("its addresses", r.heldBy(r.without("d1")))
	f.end("leaves").lossless(r)
	f = r.flow(r.Sites...)
	r.launch(d)
	r.settle()
	f.end("comes back").lossless(r)
}

// mute cuts all that the first director says, and not what it hears: the others call it dead, and it knows nothing of that.
func (r *rig) mute() {
	f := r.flow(r.Sites...)
	heal := r.cutOneWay(r.Directors[:1], r.Directors[1:])
	r.until(40*time.Second, "wait until the others take over", func() error { return r.heldBy(r.without("d1"), "d1") })
	r.rest(2 * time.Second)
	heal()
	r.settle()
	f.end("cut one way").lossless(r)
}

// realServerDies kills a real server's host: every director calls it dead, and the same one takes its tunnels over at each.
func (r *rig) realServerDies() {
	for _, d := range r.d { // who assigns has successors adopt whose agents it hears
		r.must("hear the agents", d.Heard(r.ctx, 0, r.RealServers...))
	}
	dead := r.placed(r.Sites[0])
	f := r.flow(r.Sites...)
	r.must("kill "+dead.Name, r.KillRealServer(dead.Index))
	r.until(30*time.Second, "wait until all directors call it dead", func() error {
		for _, d := range r.d {
			st, err := d.Client.RealServer(r.ctx, dead.Name)
			if err != nil {
				return err
			}
			if st.State != "dead" {
				return fmt.Errorf("%s says it is %s: %s", d.On().Title, st.State, st.Cause)
			}
		}
		return nil
	})
	r.rest(2 * time.Second)
	at := f.at
	o := f.end("real server dies")
	r.tables(r.d...)
	for _, s := range r.Sites {
		if got := r.placed(s); (got == at[s]) == (at[s] == dead) {
			r.Errorf("%s was at %s and is at %s; dead is %s", s.Name, at[s].Name, got.Name, dead.Name)
		}
		if at[s] != dead && o.site[s]*5 > o.sent/len(r.Sites) {
			r.Errorf("%s lost %d packets, and its real server lives", s.Name, o.site[s])
		}
	}
	r.must("start "+dead.Name+" again", r.Restore(dead.Index))
	r.must("start its agent", r.agents[dead].Start())
	r.until(30*time.Second, "see it alive again", func() error {
		for _, d := range r.d {
			if st, err := d.Client.RealServer(r.ctx, dead.Name); err != nil || st.State != "alive" {
				return errors.Join(fmt.Errorf("%s says it is %s", d.On().Title, st.State), err)
			}
		}
		return nil
	})
	for _, d := range r.d {
		r.must("hear its agent", d.Heard(r.ctx, 0, dead))
	}
}

// unreaching pulls one director's cable to the real servers: it alone does not reach them, and gives its addresses up.
func (r *rig) unreaching() {
	f := r.flow(r.Sites...)
	w := r.watch(r.VIPs[0], r.Directors[1])
	r.must("pull a cable", r.SetCable(r.Director.RS, false))
	w.report("reaches no real server", time.Now())
	r.until(40*time.Second, "wait until its addresses are elsewhere", func() error { return r.heldBy(r.without("d1")) })
	r.until(15*time.Second, "have real servers that one director does not reach alive", func() error {
		for _, rs := range r.RealServers {
			if st, err := r.d[1].Client.RealServer(r.ctx, rs.Name); err != nil || st.State != "alive" {
				return errors.Join(fmt.Errorf("%s is %s: %s", rs.Name, st.State, st.Cause), err)
			}
		}
		return nil
	})
	r.rest(500 * time.Millisecond)
	f.end("reaches no real server").still(r)
	f = r.flow(r.Sites...)
	at := time.Now()
	r.must("plug a cable in", r.SetCable(r.Director.RS, true))
	r.comesBack(r.d[0], at)
	f.end("reaches real servers again").lossless(r)
}

// upgrade restarts all directors, one after another.
func (r *rig) upgrade() {
	f := r.flow(r.Sites...)
	for i := len(r.d) - 1; i >= 0; i-- {
		r.must("stop", r.d[i].Stop())
		r.launch(r.d[i])
		r.until(30*time.Second, "wait until it is as the others", func() error { return r.equal(r.d...) })
	}
	r.settle()
	f.end("upgrade of three").lossless(r)
}

// remove deletes all of a director's table.
func (r *rig) remove(d *daemon.Daemon) {
	r.Helper()
	r.must("remove the table", os.RemoveAll(d.Data()))
}
