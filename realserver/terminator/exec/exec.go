// Package exec drives whatever tunnel software there is a program for: one for each question, named by its argv and run without
// a shell. It is told of a tunnel by its environment:
//
//	TD_ID         the tunnel's name in the directors' table
//	TD_PEER       what the program called it, here or at the real server before; may be empty
//	TD_LOCAL      the VIP
//	TD_ENDPOINT   the site's address, or address:port where there is one
//	TD_SUBNETS    the subnets behind it, separated by blanks
//	TD_BANDWIDTH  the expected one, bit/s; 0: none
//	TD_ACCEPT     yes or no; for Accept only
//
// It gets no other variables than PATH, and nothing on its standard input. It runs in Options.Space, but sees the agent's files: what
// /sys shows of the network is another namespace's. Exit status 0 is success; 69 (EX_UNAVAILABLE) says that
// the tunnel software is not there; 75 (EX_TEMPFAIL), of a program that adopts, that the site has to dial. Anything else is a
// failure, for which the first line on standard error stands: it goes into logs, so no secret may be in it.
//
// A program that lists tunnels prints one JSON object a line, for each that is established:
//
//	{"peer":"site1","endpoint":"203.0.113.5:655","local":"192.0.2.10","subnets":["100.64.1.0/24"],"since":1767225600,"last":1767225660,"rx":5,"tx":6}
//
// peer and endpoint have to be there; since and last are seconds since 1970. Without since it is when the tunnel was first seen,
// without last when rx was seen to grow. A program that tells what the software works with prints one object:
//
//	{"processes":[4711],"sockets":["192.0.2.10:655"],"devices":["tinc0"],"threads":1}
package exec

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
)

// Options name the programs, by argv; none: the software cannot.
type Options struct {
	Tunnels []string // required
	Adopt   []string
	Release []string
	Accept  []string
	Carries []string // prints how many tunnels the kernel would carry without the software's control process
	Work    []string
	Timeout time.Duration // of each run; 0: 10 s
	Space   space.Space   // the network namespace they run in
}

// A Terminator is what Options' programs are for.
type Terminator struct {
	opts Options
	seen history // Tunnels' own
}

// A Carrier is a Terminator that can tell what the kernel carries.
type Carrier struct {
	*Terminator
}

// New returns a Carrier if there is a program for that, else a Terminator. It touches nothing.
func New(opts Options) terminator.Terminator {
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	t := &Terminator{opts: opts, seen: history{}}
	if len(opts.Carries) > 0 {
		return Carrier{t}
	}
	return t
}

// Tunnels lists what the program prints.
func (t *Terminator) Tunnels(ctx context.Context) ([]agent.Tunnel, error) {
	out, err := t.run(ctx, t.opts.Tunnels, nil)
	if err != nil {
		return nil, fmt.Errorf("list tunnels: %w", err)
	}
	tunnels, err := parse(out)
	if err != nil {
		return nil, fmt.Errorf("list tunnels: what %s prints: %w", t.opts.Tunnels[0], err)
	}
	t.seen.complete(time.Now(), tunnels)
	return tunnels, nil
}

// Adopt runs the program that begins a tunnel.
func (t *Terminator) Adopt(ctx context.Context, in agent.Inherited) error {
	if len(t.opts.Adopt) == 0 {
		return fmt.Errorf("adopt %s: there is no program for it: %w", in.ID, terminator.ErrWait)
	}
	_, err := t.run(ctx, t.opts.Adopt, environment(in))
	if status(err) == exTempFail {
		err = fmt.Errorf("%w: %w", err, terminator.ErrWait)
	}
	if err != nil {
		return fmt.Errorf("adopt %s: %w", in.ID, err)
	}
	return nil
}

// Release runs the program that ends a tunnel.
func (t *Terminator) Release(ctx context.Context, in agent.Inherited) error {
	if len(t.opts.Release) == 0 {
		return fmt.Errorf("release %s: there is no program for it: %w", in.ID, terminator.ErrCannot)
	}
	if _, err := t.run(ctx, t.opts.Release, environment(in)); err != nil {
		return fmt.Errorf("release %s: %w", in.ID, err)
	}
	return nil
}

// Accept runs the program that opens and closes the software to new tunnels.
func (t *Terminator) Accept(ctx context.Context, on bool) error {
	if len(t.opts.Accept) == 0 {
		return fmt.Errorf("take new tunnels or not: there is no program for it: %w", terminator.ErrCannot)
	}
	word := "no"
	if on {
		word = "yes"
	}
	if _, err := t.run(ctx, t.opts.Accept, []string{"TD_ACCEPT=" + word}); err != nil {
		return fmt.Errorf("take new tunnels: %s: %w", word, err)
	}
	return nil
}

// Work is what the program prints; nothing, if there is none.
func (t *Terminator) Work(ctx context.Context) (terminator.Work, error) {
	if len(t.opts.Work) == 0 {
		return terminator.Work{}, nil
	}
	out, err := t.run(ctx, t.opts.Work, nil)
	if err != nil {
		return terminator.Work{}, fmt.Errorf("ask what the software works with: %w", err)
	}
	w, err := parseWork(out)
	if err != nil {
		return terminator.Work{}, fmt.Errorf("ask what the software works with: what %s prints: %w", t.opts.Work[0], err)
	}
	return w, nil
}

// Carries is the number that the program prints.
func (c Carrier) Carries(ctx context.Context) (int, error) {
	out, err := c.run(ctx, c.opts.Carries, nil)
	if err != nil {
		return 0, fmt.Errorf("count what the kernel carries: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(string(out), "\n"), 10, 31)
	if err != nil {
		return 0, fmt.Errorf("count what the kernel carries: what %s prints is not a number", c.opts.Carries[0])
	}
	return int(n), nil
}

// environment tells a program of a tunnel.
func environment(in agent.Inherited) []string {
	subnets := make([]string, len(in.Subnets))
	for i, s := range in.Subnets {
		subnets[i] = s.String()
	}
	return []string{
		"TD_ID=" + in.ID, "TD_PEER=" + in.Peer, "TD_LOCAL=" + word(in.Local), "TD_ENDPOINT=" + endpoint(in.Endpoint),
		"TD_SUBNETS=" + strings.Join(subnets, " "), "TD_BANDWIDTH=" + strconv.FormatUint(in.Bandwidth, 10),
	}
}

func endpoint(at netip.AddrPort) string {
	if at.Port() == 0 {
		return word(at.Addr())
	}
	return at.String()
}

// word is an address, or nothing.
func word(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

var errNone = errors.New("no program is named")
