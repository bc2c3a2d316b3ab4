package datapath

import (
	"encoding/binary"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
	"tunneldirector/director/probe"
	"tunneldirector/integration/spaces"
	"tunneldirector/realserver/answer"
)

// A terminator that dies is told of at once; its agent that dies, hangs or is started again is no reason to move anything.
func TestAgentAndTerminator(t *testing.T) {
	_, rs := wired(t)
	o := answer.Options{VIPs: vips, Method: "dr"}
	a := agentOn(t, rs, o)
	d := direct(t, probe.Target{})
	d.settled()

	a.says(agent.HealthDead)
	d.await(false, "answered: dead")
	a.says(agent.HealthHeadless)
	d.await(true, "answered: headless")
	a.says(agent.HealthWorking)
	d.quiet(5*interval, agent.HealthWorking, "")

	a.signal(syscall.SIGSTOP)
	d.deaf()
	d.quiet(3*time.Second, agent.HealthUnknown, "")
	a.signal(syscall.SIGCONT)
	a.counts() // it runs again, as one that is heard on its stream
	d.up(true)
	d.quiet(time.Second, agent.HealthWorking, "")

	for range 3 {
		d.deaf()
		a.kill()
		d.quiet(time.Second, agent.HealthUnknown, "port closed")
		d.up(false)
		d.quiet(time.Second, agent.HealthUnknown, "")
		d.up(true)
		d.quiet(time.Second, agent.HealthUnknown, "")
		a = agentOn(t, rs, o)
		d.quiet(4*time.Second, agent.HealthWorking, "")
	}
}

// The VIP is lost, or a filter drops what comes to it, while the agent goes on speaking on its stream.
func TestDataPathCut(t *testing.T) {
	_, rs := wired(t)
	agentOn(t, rs, answer.Options{VIPs: vips, Method: "dr"})
	d := direct(t, probe.Target{})
	d.settled()
	for range 3 {
		undo := drop(t, rs)
		d.await(false, "no answer on the data path while its stream is up")
		undo()
		d.await(true, "answered: working")
	}
}

// A filter that was there before is told of, and moves nothing.
func TestDataPathNeverThere(t *testing.T) {
	_, rs := wired(t)
	undo := drop(t, rs)
	agentOn(t, rs, answer.Options{VIPs: vips, Method: "dr"})
	d := direct(t, probe.Target{})
	d.await(true, "answered")
	d.quiet(3*time.Second, agent.HealthUnknown, "never answered")
	undo()
	d.quiet(time.Second, agent.HealthWorking, "")
}

// A host that is prepared for another forwarding method says so.
func TestWrongWay(t *testing.T) {
	_, rs := wired(t)
	agentOn(t, rs, answer.Options{VIPs: vips, Method: "tunnel", Devices: []string{decap4, decap6}})
	d := direct(t, probe.Target{})
	d.await(true, "answered")
	d.quiet(time.Second, agent.HealthUnknown, "came by IPIP, the host is not prepared for forwarding method dr")
}

// Through IPIP, in both families, and without the device that decapsulates.
func TestTunnel(t *testing.T) {
	_, rs := wired(t)
	decapsulate(t, rs)
	a := agentOn(t, rs, answer.Options{VIPs: vips, Method: "tunnel", Devices: []string{decap4, decap6}})
	d := direct(t, probe.Target{Method: affinity.IPIP})
	d.settled()
	if c := a.counts(); c.Answered == 0 || c.WrongWay != 0 {
		t.Errorf("counts %+v", c)
	}
	for _, device := range []string{decap4, decap6} {
		rs.Down(device)
		d.await(false, "no answer on the data path while its stream is up")
		rs.Up(device)
		d.await(true, "answered: working")
	}
	a.says(agent.HealthDead)
	d.await(false, "answered: dead")
}

// A host prepared for dr gets probes by IPIP.
func TestTunnelToDR(t *testing.T) {
	_, rs := wired(t)
	decapsulate(t, rs)
	agentOn(t, rs, answer.Options{VIPs: vips, Method: "dr", Devices: []string{decap4, decap6}})
	d := direct(t, probe.Target{Method: affinity.IPIP})
	d.await(true, "answered")
	d.quiet(time.Second, agent.HealthUnknown, "came not by IPIP")
}

// drop makes a real server's packet filter drop probes, silently.
func drop(t testing.TB, s spaces.Space) (undo func()) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(s.NS)))
	must(t, err)
	table := c.AddTable(&nftables.Table{Name: "cut", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{Name: "input", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{17}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, agent.DefaultProbe)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	must(t, c.Flush())
	return func() {
		c.DelTable(table)
		must(t, c.Flush())
	}
}
