package wireguard

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/realserver/terminator/terminatortest"
)

// A stub answers on a configuration socket, as it is told to.
type stub struct {
	*terminatortest.Stub

	mu       sync.Mutex // guards what follows
	answer   func(c net.Conn, request string)
	requests []string
}

func listen(t testing.TB, answer func(c net.Conn, request string)) *stub {
	t.Helper()
	s := &stub{answer: answer}
	s.Stub = terminatortest.Listen(t, s.serve)
	return s
}

// serve reads one request, answers it, and waits for the other side to close.
func (s *stub) serve(c net.Conn) {
	var b strings.Builder
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\n" {
			break
		}
		b.WriteString(line)
	}
	s.mu.Lock()
	s.requests = append(s.requests, b.String())
	answer := s.answer
	s.mu.Unlock()
	answer(c, b.String())
	_, _ = r.ReadByte()
}

// set is the last request to set something.
func (s *stub) set() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.requests) - 1; i >= 0; i-- {
		if strings.HasPrefix(s.requests[i], "set=1\n") {
			return s.requests[i]
		}
	}
	return ""
}

// says answers every question with a device, and every change with success.
func says(d device) func(net.Conn, string) {
	return func(c net.Conn, request string) {
		text := "errno=0\n\n"
		if request == "get=1\n" {
			text = d.text() + text
		}
		fmt.Fprint(c, text)
	}
}

// text is a device in words of the configuration protocol.
func (d device) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%s\nlisten_port=%d\n", strings.Repeat("a7", 32), d.port)
	for _, p := range d.peers {
		fmt.Fprintf(&b, "public_key=%s\npreshared_key=%s\nprotocol_version=1\n", hex.EncodeToString(p.key[:]), hex.EncodeToString(p.shared[:]))
		if p.endpoint.IsValid() {
			fmt.Fprintf(&b, "endpoint=%s\n", p.endpoint)
		}
		var sec, nsec int64
		if !p.handshake.IsZero() {
			sec, nsec = p.handshake.Unix(), int64(p.handshake.Nanosecond())
		}
		fmt.Fprintf(&b, "last_handshake_time_sec=%d\nlast_handshake_time_nsec=%d\ntx_bytes=%d\nrx_bytes=%d\npersistent_keepalive_interval=%d\n",
			sec, nsec, p.tx, p.rx, int(p.keepalive/time.Second))
		for _, a := range p.allowed {
			fmt.Fprintf(&b, "allowed_ip=%s\n", a)
		}
	}
	return b.String()
}

func key(n byte) wgtypes.Key { return wgtypes.Key{n, 1} }

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
