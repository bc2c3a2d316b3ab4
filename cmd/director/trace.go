package main

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func traceCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "trace", Usage: "tell what happens to a packet, and why",
		Description: console.Describe(`
Looks a packet up, in the table and in the data plane itself, and tells each step in words: which real
server gets it, by which pin, since when and why, by which MAC address and interface, what agents see of
the tunnel, and who would get it if that one died. Towards a virtual IP it is the tunnel side, towards an
address behind a tunnel the subnet side. The packet is told by its addresses, or is in a file of tcpdump.

With --live it waits for packets as they come in at the director that is asked, tells of each what came
and what the data plane did with it, and then looks it up. --from and --to may be prefixes there, and may
be left out. It takes an operator, and one may watch at a time. If nothing comes the exit code is 1.`,
			"director trace --from 203.0.113.5 --to 192.0.2.10 --proto esp",
			"director trace --from 203.0.113.5:41641 --to 192.0.2.10:51820 --proto udp",
			"director trace --from 192.0.2.200 --to 100.64.40.33 --tenant customer-a",
			"director trace --pcap site.pcap --packet 7 --all",
			"director trace --live --from 203.0.113.0/24 --to 192.0.2.10 --count 3 --for 2m"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "source `ADDR`, or ADDR:PORT; with --live a prefix, too"},
			&cli.StringFlag{Name: "to", Usage: "destination `ADDR`, or ADDR:PORT; with --live a prefix, too"},
			&cli.StringFlag{Name: "proto", Usage: "IP `PROTOCOL`: esp, ah, gre, l2tp, ipip, udp, tcp, icmp or a number; default: the first that the VIP balances"},
			&cli.UintFlag{Name: "from-port", Usage: "source port `N`"},
			&cli.UintFlag{Name: "to-port", Usage: "destination port `N`"},
			&cli.StringFlag{Name: "tenant", Usage: "`NAME` of the tenant whose interface it comes in by, on the subnet side"},
			&cli.StringFlag{Name: "fragment", Usage: "`first` or later: the packet is a fragment"},
			&cli.StringFlag{Name: "came-from", Usage: "real server by `NAME`, or MAC address, that the packet comes from: what a real server sends back is a loop"},
			&cli.StringFlag{Name: "pcap", Usage: "take the packet from a `FILE`, pcap or pcapng"},
			&cli.IntFlag{Name: "packet", Value: 1, Usage: "of the file packet `N`, from 1"},
			&cli.BoolFlag{Name: "live", Usage: "wait for packets as they come in"},
			&cli.IntFlag{Name: "count", Value: 1, Usage: "with --live: end after `N` packets, up to 10000"},
			&cli.DurationFlag{Name: "for", Value: 30 * time.Second, Usage: "with --live: wait `DURATION`, up to 10m"},
			&cli.BoolFlag{Name: "all", Usage: "ask every live director, not this one alone"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("live") {
				return streams(env, console.Count{}, traceLive)(c)
			}
			return asks(env, console.Count{}, trace)(c)
		},
	}
}

func trace(ctx context.Context, t *talk) error {
	for _, name := range []string{"count", "for"} {
		if t.IsSet(name) {
			return console.Usage("--%s: there is no --live", name)
		}
	}
	q, err := t.question()
	if err != nil {
		return err
	}
	if t.Bool("all") {
		all, err := t.client.LookupAll(ctx, q)
		if err != nil {
			return err
		}
		return t.Show(all, func(p *console.Page) { traceAllPage(p, &all) })
	}
	e, err := t.client.Lookup(ctx, q)
	if err != nil {
		return err
	}
	return t.Show(e, func(p *console.Page) { tracePage(p, &e) })
}

func (t *talk) question() (api.Question, error) {
	if t.String("pcap") != "" {
		return t.captured()
	}
	if t.IsSet("packet") {
		return api.Question{}, console.Usage("--packet %d: there is no --pcap FILE", t.Int("packet"))
	}
	q := api.Question{Proto: t.String("proto"), Tenant: t.String("tenant"), Fragment: t.String("fragment"), SrcMAC: t.String("came-from")}
	if t.String("from") == "" || t.String("to") == "" {
		return q, console.Usage("director trace lacks --from ADDR or --to ADDR, or else --pcap FILE")
	}
	if q.Fragment != "" && q.Fragment != "first" && q.Fragment != "later" {
		return q, console.Usage("--fragment %s: is neither first nor later", q.Fragment)
	}
	var err error
	if q.Src, q.SrcPort, err = t.end("from"); err != nil {
		return q, err
	}
	q.Dst, q.DstPort, err = t.end("to")
	return q, err
}

// captured is the question for a packet of a file.
func (t *talk) captured() (api.Question, error) {
	for _, name := range []string{"from", "to", "proto", "from-port", "to-port", "fragment"} {
		if t.IsSet(name) {
			return api.Question{}, console.Usage("--pcap and --%s: the file says that", name)
		}
	}
	if t.Int("packet") < 1 {
		return api.Question{}, console.Usage("--packet %d: is not at least 1", t.Int("packet"))
	}
	q, err := captured(t.String("pcap"), t.Int("packet"))
	q.Tenant = t.String("tenant")
	if from := t.String("came-from"); from != "" {
		q.SrcMAC = from
	}
	return q, err
}

// end reads one end of a packet: an address, with its port or with the flag beside it.
func (t *talk) end(name string) (addr string, port uint16, err error) {
	addr = t.String(name)
	n := t.Uint(name + "-port")
	if n > 65535 {
		return "", 0, console.Usage("--%s-port %d: is not a port", name, n)
	}
	ap, perr := netip.ParseAddrPort(addr)
	if perr != nil {
		return addr, uint16(n), nil // the director says what is wrong with it
	}
	if n != 0 && uint16(n) != ap.Port() {
		return "", 0, console.Usage("--%s %s and --%s-port %d: say one port", name, addr, name, n)
	}
	return ap.Addr().String(), ap.Port(), nil
}

func traceAllPage(p *console.Page, all *api.Explanations) {
	for i := range all.Explanations {
		x := &all.Explanations[i]
		p.Line("director %s:\n", x.Director)
		tracePage(p, &x.Explanation)
		p.Line("")
	}
	for _, s := range all.Silent {
		p.Line("director %s did not answer: %s", s.Director, s.Why)
	}
	switch {
	case !all.Agree:
		p.Line("THE DIRECTORS DO NOT AGREE. director doctor tells whether their tables differ.")
	case len(all.Explanations) > 1:
		p.Line("The %d directors that answered agree.", len(all.Explanations))
	}
}

func tracePage(p *console.Page, e *api.Explanation) {
	for i, w := range e.Words {
		p.Line("%2d. %s", i+1, w)
	}
	if len(e.Words) > 0 {
		p.Line("")
	}
	p.Facts([][2]string{
		{"verdict", verdictWords(e)}, {"side", e.Side}, {"service", e.Service}, {"tunnel", e.Tunnel}, {"group", e.Group}, {"matched", e.Matched},
		{"pin", pinWords(e)}, {"next hop", hopWords(e)}, {"agent", e.Agent}, {"if it dies", e.IfItDies},
	})
	if !e.Agrees {
		p.Line("\nThe data plane does not do what the table says. director status tells whether it is being mended.")
	}
}

// hopWords is where the packet leaves for.
func hopWords(e *api.Explanation) string {
	var parts []string
	for i := range e.NextHops {
		h := &e.NextHops[i]
		if mac := h.Sends(); mac != "" {
			parts = append(parts, mac+" by "+orWord(h.PlaneInterface, h.Interface))
		}
	}
	return strings.Join(parts, ", ")
}

func verdictWords(e *api.Explanation) string {
	switch e.Action {
	case "forward":
		s := "forwarded to real server " + e.RealServer
		if e.UsedBackup {
			s += ", the backup, since " + orWord(e.Primary, "the primary") + " is dead"
		}
		return s
	case "drop":
		return "dropped: " + e.Reason
	}
	return "left to the director's own stack: " + e.Reason
}

func pinWords(e *api.Explanation) string {
	if e.Primary == "" {
		return ""
	}
	parts := []string{"primary " + e.Primary, "backup " + orWord(e.Backup, "none")}
	if e.PinSince != "" {
		parts = append(parts, "since "+e.PinSince)
	}
	if e.PinWhy != "" {
		parts = append(parts, e.PinWhy)
	}
	if e.PinnedBy != "" {
		parts = append(parts, "by "+e.PinnedBy)
	}
	return strings.Join(parts, ", ")
}
