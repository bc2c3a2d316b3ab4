package gossip

import (
	"context"
	"log/slog"
	"net"
	"regexp"
	"strings"

	"golang.org/x/time/rate"

	"tunneldirector/cluster/beat/fault"
)

// noKey is what memberlist says of what it cannot decrypt.
const noKey = "no installed keys could decrypt the message"

// heard is what memberlist says in its log only, and what it means. The texts are those of memberlist v0.7.0; tests over real
// sockets notice when they change.
var heard = []struct{ part, means string }{
	{noKey, "it seals with a key that is not on this keyring"},
	{"encryption is configured but remote state is not encrypted", "it does not encrypt"},
	{"unacceptable label", "it is of another cluster, or no director"},
	{"label header", "it is of another cluster, or no director"},
	{"is incompatible: [", "versions do not fit"},
	{"protocol version(s) are wrong", "versions do not fit"},
}

var from = regexp.MustCompile(`from=(\S+)`)

// A logWriter takes memberlist's log lines: what is wrong with a peer becomes a fault, the rest goes to the log, its chatter at
// debug and its warnings seldom.
type logWriter struct {
	log    *slog.Logger
	faults *fault.Book
	rate   *rate.Limiter
}

// newRate lets a line through every ten seconds, and a few at once.
func newRate() *rate.Limiter { return rate.NewLimiter(0.1, 5) }

// Write takes a line.
func (w *logWriter) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelDebug
	if strings.HasPrefix(text, "[WARN]") || strings.HasPrefix(text, "[ERR") || strings.HasPrefix(text, "Err:") {
		level = slog.LevelWarn
	}
	for _, h := range heard {
		if level == slog.LevelWarn && strings.Contains(text, h.part) {
			host := source(text)
			w.faults.Add(h.means+" "+host, "gossip from "+host+" is refused: "+h.means, 0)
			level = slog.LevelDebug // the book logs it
		}
	}
	if strings.Contains(text, "Conflicting address") { // NotifyConflict has it
		level = slog.LevelDebug
	}
	if level == slog.LevelDebug || w.rate.Allow() {
		w.log.Log(context.Background(), level, "memberlist", "line", text)
	}
	return len(line), nil
}

// source is the host that a line is about.
func source(text string) string {
	m := from.FindStringSubmatch(text)
	if m == nil {
		return "somewhere"
	}
	if host, _, err := net.SplitHostPort(m[1]); err == nil {
		return host
	}
	return m[1]
}
