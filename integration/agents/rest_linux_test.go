package agents

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tunneldirector/integration/daemon"
	"tunneldirector/integration/lab"
	"tunneldirector/integration/software"
)

// TestAtRest measures what the agent's program takes of a core and of memory while 10,000 tunnels are established and carry
// packets, and a director listens. Terminators are stand-ins that speak the control protocols.
// charon's list is made once; its tunnels' counters stand still.
func TestAtRest(t *testing.T) {
	if os.Getenv("AGENTS_BENCH") == "" {
		t.Skip("a measurement: AGENTS_BENCH=1")
	}
	const tunnels = 10_000
	for _, c := range []struct {
		name, socket, terminator string
		answer                   func(net.Conn, int)
	}{
		{"wireguard", "wireguard/wg9.sock", "{kind: wireguard, device: wg9, socket: /run/wireguard/wg9.sock, sends_from_vip: true}", sayWireGuard},
		{"strongswan", "charon.vici", "{kind: strongswan, kernel_ipsec: false}", sayCharon},
		{"fastd", "fastd.sock", "{kind: fastd, socket: " + software.FastdSocket + "}", sayFastd},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newLab(t, wireGuard{}, lab.Options{Sites: 1, RealServers: 2})
			rs := r.RealServers[0]
			r.run()
			r.listen(rs, c.socket, func(n net.Conn) { c.answer(n, tunnels) })
			a, err := r.agent(r.Lab, rs, daemon.AgentOptions{Terminator: c.terminator, Settings: "look: 5s"})
			r.must("configure", err)
			r.must("start", a.Start())
			r.must("hear the agent", r.d.Heard(r.ctx, tunnels, rs))
			r.rest(15 * time.Second)
			before := ticks(t, a.PID())
			r.rest(60 * time.Second)
			share := float64(ticks(t, a.PID())-before) / 100 / 60 * 100
			m := memoryOf(t, a.PID())
			t.Logf("MEASURED agent-at-rest %.2f %% of a core, %.1f MiB: %.1f of its own, %.1f of the program's file (%s, %d tunnels, look each 5 s)",
				share, m.own+m.file, m.own, m.file, c.name, tunnels)
		})
	}
}

// listen answers on a unix socket of a real server's machine, until the test's end.
func (r *rig) listen(rs *lab.RealServer, name string, serve func(net.Conn)) {
	r.Helper()
	path := filepath.Join(rs.NS.RunDir(), name)
	r.must("listen", os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.Listen("unix", path)
	r.must("listen", err)
	r.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

func stranger(i int) (netip.AddrPort, netip.Prefix) {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 51820),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(72 + i>>12), byte(i >> 4), byte(i << 4)}), 28)
}

// sayWireGuard is a device that all peers have just sent to.
func sayWireGuard(c net.Conn, n int) {
	in := bufio.NewReader(c)
	for {
		if line, err := in.ReadString('\n'); err != nil {
			return
		} else if line != "get=1\n" {
			continue
		}
		now := time.Now()
		w := bufio.NewWriter(c)
		fmt.Fprintf(w, "private_key=%064x\nlisten_port=51820\n", 1)
		for i := range n {
			at, subnet := stranger(i)
			fmt.Fprintf(w, "public_key=%064x\npreshared_key=%064x\nprotocol_version=1\nendpoint=%s\nlast_handshake_time_sec=%d\nlast_handshake_time_nsec=0\n"+
				"tx_bytes=%d\nrx_bytes=%d\npersistent_keepalive_interval=0\nallowed_ip=%s\n",
				i+1, 0, at, now.Unix()/100*100, now.UnixMilli(), now.UnixMilli(), subnet)
		}
		fmt.Fprint(w, "errno=0\n\n")
		if w.Flush() != nil {
			return
		}
	}
}

// sayFastd is a status document, as fastd 22 writes it.
func sayFastd(c net.Conn, n int) {
	now := time.Now()
	peers := map[string]any{}
	for i := range n {
		at, _ := stranger(i)
		traffic := map[string]any{"packets": now.UnixMilli() / 100, "bytes": now.UnixMilli()}
		peers[fmt.Sprintf("%064x", i+1)] = map[string]any{"name": fmt.Sprintf("site-%05d", i), "address": at.String(), "interface": nil, "connection": map[string]any{
			"established": now.UnixMilli() - 1_700_000_000_000, "method": "salsa2012+umac",
			"statistics": map[string]any{"rx": traffic, "tx": traffic, "rx_reordered": traffic, "tx_dropped": traffic, "tx_error": traffic},
		}}
	}
	_ = json.NewEncoder(c).Encode(map[string]any{"uptime": 1000, "interface": "fd0", "peers": peers}) // the agent may be gone
}

// ticks are the hundredths of a second that a process has taken of cores.
func ticks(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	sum := 0
	for _, f := range fields[11:13] { // utime, stime: proc(5)
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// A memory is what of a process is resident, in MiB: its own pages, and those of the program's file, which the kernel can drop and read
// again, and which processes of one program share.
type memory struct{ own, file float64 }

func memoryOf(t *testing.T, pid int) (m memory) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		to := map[string]*float64{"RssAnon": &m.own, "RssFile": &m.file}[name]
		if to == nil {
			continue
		}
		kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
		if err != nil {
			t.Fatalf("%s: %v", strings.TrimSpace(line), err)
		}
		*to = float64(kib) / 1024
	}
	if m.own == 0 || m.file == 0 {
		t.Fatalf("what process %d takes of memory is not told: %s", pid, text)
	}
	return m
}
