package probe

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"tunneldirector/affinity"
	"tunneldirector/director/agent"
)

// TestConclude plays rounds of 200 ms: w, h, d, u are answers of a health; n is another name, x another way; . is none; s is a
// port unreachable, - a round that was not asked. What is concluded: V, A, ? (pending), L, and . for no word.
func TestConclude(t *testing.T) {
	target := Target{Name: "rs1"}
	const interval = 200 * time.Millisecond
	dots := func(n int) string { return strings.Repeat(".", n) }
	for _, tt := range []struct {
		name        string
		up          bool
		upFor       time.Duration // at the first round
		heardEvery  time.Duration // 0: never
		rounds      string
		want        string
		trouble     string // at last
		lostAtOnces int    // rounds that the first L counts for
	}{
		{"all healths", true, time.Hour, time.Second, "whdu", "VVA?", "unknown", 0},
		{"all healths, stream down", false, 0, 0, "whdu", "VVA?", "unknown", 0},
		{"silent, stream down", false, 0, 0, "w......", "V......", "", 0},
		{"silent, stream up and heard", true, time.Hour, time.Second, "ww......", "VV....LL", "no answer on the data path while its stream is up", 5},
		{"silent for a while, heard, and answers the next question", true, time.Hour, time.Second, "ww....w", "VV....V", "working", 0},
		{"silent, stream up and hangs", true, time.Hour, 0, "ww" + dots(20), "VV" + dots(20), "", 0},
		{"silent for longer than the stream would", true, time.Hour, 0, "w" + dots(52), "V" + dots(50) + "LL", "no answer on the data path while its stream is up", 0},
		{"silent from the start", true, 0, time.Second, dots(27), strings.Repeat("?", 25) + "..", "never answered; a filter, or the VIP or the decapsulation is missing", 0},
		{"comes up again, silent", true, 0, time.Second, "w" + dots(26), "V" + strings.Repeat("?", 24) + "LL", "no answer on the data path while its stream is up", 0},
		{"another name from the start", true, time.Hour, time.Second, "nn", "..", "answered by rs2", 0},
		{"another name all at once", true, time.Hour, time.Second, "wwnn", "VVLL", "answered by rs2", 0},
		{"another name, stream down", false, 0, 0, "wn", "V.", "answered by rs2", 0},
		{"another way all at once", true, time.Hour, time.Second, "wx", "VL", "came by IPIP, the host is not prepared for forwarding method dr", 0},
		{"one is lost", true, time.Hour, 50 * time.Millisecond, "w.w.w.", "V.V.V.", "", 0},
		{"flooded", true, time.Hour, time.Second, "ww" + dots(60) + "w", "VV" + dots(60) + "V", "working", 0},
		{"flooded, and silent at last", true, time.Hour, time.Second, "ww" + dots(60), "VV" + dots(60), "its probes are flooded", 0},
		{"flooded, and another answers", true, time.Hour, time.Second, "wwnn", "VVLL", "answered by rs2", 0},
		{"port closed", true, time.Hour, time.Second, "wsssssss", "V.......", "port closed", 0},
		{"not asked", true, time.Hour, time.Second, "w--------", "V........", "", 0},
		{"not asked in between", true, time.Hour, time.Second, "w...-...", "V.......", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &word{}
			start := time.Unix(1_800_000_000, 0)
			var got strings.Builder
			first := 0
			for i, r := range tt.rounds {
				asked := start.Add(time.Duration(i) * interval)
				now := asked.Add(interval / 2)
				n := w.ask(asked)
				a := agent.Answer{Nonce: n, RealServer: "rs1"}
				switch r {
				case 'w', 'h', 'd', 'u', 'n', 'x':
					a.Health = map[rune]agent.Health{'w': agent.HealthWorking, 'h': agent.HealthHeadless, 'd': agent.HealthDead}[r]
					a.WrongWay = r == 'x'
					if r == 'n' {
						a.RealServer = "rs2"
					}
					if !w.hear(a, &target, asked.Add(time.Millisecond)) {
						t.Fatal("an answer to a question is not taken")
					}
				case '-':
					asked = time.Time{}
				}
				s := stream{up: tt.up, since: start.Add(-tt.upFor), heard: func() time.Time {
					if tt.heardEvery == 0 {
						return time.Time{}
					}
					return now.Truncate(tt.heardEvery)
				}}
				s.flood = func() bool { return strings.HasPrefix(tt.name, "flooded") }
				w.conclude(s, asked, r == 's', now)
				got.WriteString(map[opinion]string{noWord: ".", vouched: "V", pending: "?", lost: "L", accused: "A"}[w.opinion])
				if w.opinion == lost && first == 0 {
					first = w.row
				}
			}
			if got.String() != tt.want {
				t.Errorf("rounds  %s\nopinion %s\nwant    %s", tt.rounds, got.String(), tt.want)
			}
			if w.problem != tt.trouble {
				t.Errorf("problem %q, want %q", w.problem, tt.trouble)
			}
			if tt.lostAtOnces > 0 && first != tt.lostAtOnces {
				t.Errorf("lost for %d rounds, want %d", first, tt.lostAtOnces)
			}
		})
	}
}

// Only answers to a question of ours count, each once, and those to the last few questions.
func TestNonces(t *testing.T) {
	target, now := Target{Name: "rs1", Method: affinity.IPIP}, time.Unix(1_800_000_000, 0)
	w := &word{}
	hear := func(n agent.Nonce) bool { return w.hear(agent.Answer{Nonce: n, RealServer: "rs1"}, &target, now) }
	if hear(agent.Nonce{}) || hear(agent.Nonce{1}) {
		t.Error("an answer to no question is taken")
	}
	seen := map[agent.Nonce]bool{}
	old := w.ask(now)
	for range remembered {
		n := w.ask(now)
		if seen[n] {
			t.Fatal("a nonce twice")
		}
		seen[n] = true
	}
	if hear(old) {
		t.Error("an answer to a question of long ago is taken")
	}
	for n := range seen {
		if !hear(n) || hear(n) {
			t.Error("an answer is taken once")
		}
	}
	n := w.ask(now)
	if w.hear(agent.Answer{Nonce: n, RealServer: "rs1", WrongWay: true}, &target, now); w.wrong != "came not by IPIP" {
		t.Errorf("wrong way: %q", w.wrong)
	}
}

// A frame with another nonce is the one that would have been built with it.
func TestRenew(t *testing.T) {
	for range 200 {
		for _, q := range []*question{{kind: askAgent, dst: vip4, src: dir4, port: 7461}, {kind: askAgent, dst: vip6, src: dir6, port: 7461}} {
			build := func(n agent.Nonce) []byte {
				q.probe = agent.AppendProbe(nil, n, "rs1")
				b, err := envelope{mac: ours, to: rs, port: PortBase + 7, cookie: 5}.packet(q)
				if err != nil {
					t.Fatal(err)
				}
				return bytes.Clone(b)
			}
			var a, b agent.Nonce
			_, _ = rand.Read(a[:])
			_, _ = rand.Read(b[:])
			got, want := build(a), build(b)
			renew(got, b)
			if d := cmp.Diff(want, got); d != "" {
				t.Fatal(d)
			}
			if ip, ok := gopacket.NewPacket(got, layers.LayerTypeEthernet, gopacket.Default).NetworkLayer().(*layers.IPv4); ok && ip.TTL != agent.ProbeTTL {
				t.Errorf("TTL %d", ip.TTL)
			}
		}
	}
}
