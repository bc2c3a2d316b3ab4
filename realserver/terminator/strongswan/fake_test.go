package strongswan

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A fake is a charon: it keeps IKE SAs and connections, and answers as charon does.
type fake struct {
	t      testing.TB
	socket string
	l      net.Listener
	wait   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]map[string]bool
	sas    []fakeSA
	config map[string]message // by name: sections of list-conns
	certs  []message
	loaded map[string]message // by name: of load-conn
	begun  []string           // name/child, of initiate
	ended  []string           // numbers, of terminate
	log    []string           // told while one is initiated with a timeout
	fails  string             // errmsg of such an initiate
	asked  map[string]int     // commands
}

// A fakeSA is what list-sas tells of one.
type fakeSA struct {
	connection, id string
	body           message
}

func startFake(t testing.TB) *fake {
	t.Helper()
	f := &fake{
		t: t, socket: filepath.Join(t.TempDir(), "vici"), conns: map[net.Conn]map[string]bool{}, config: map[string]message{},
		loaded: map[string]message{}, asked: map[string]int{},
	}
	f.listen()
	t.Cleanup(f.stop)
	return f
}

func (f *fake) listen() {
	var err error
	if f.l, err = net.Listen("unix", f.socket); err != nil {
		f.t.Fatal(err)
	}
	l := f.l
	f.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[c] = map[string]bool{}
			f.mu.Unlock()
			f.wait.Go(func() { f.serve(c) })
		}
	})
}

// stop is charon's end.
func (f *fake) stop() {
	f.l.Close()
	f.mu.Lock()
	for c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wait.Wait()
}

func (f *fake) serve(c net.Conn) {
	defer func() {
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
		c.Close()
	}()
	for {
		kind, name, m, err := readPacket(c)
		if err != nil {
			return
		}
		f.mu.Lock()
		switch {
		case (kind == eventRegister || kind == eventUnregister) && name == "ike-update": // charon 5.9.8 has none
			f.write(c, eventUnknown, "", nil)
		case kind == eventRegister:
			f.conns[c][name] = true
			f.write(c, eventConfirm, "", nil)
		case kind == eventUnregister:
			delete(f.conns[c], name)
			f.write(c, eventConfirm, "", nil)
		case kind == cmdRequest:
			f.asked[name]++
			f.answer(c, name, m)
		default:
			f.t.Errorf("packet type %d of a client", kind)
		}
		f.mu.Unlock()
	}
}

// readPacket is the server's way to read, apart from the client's.
func readPacket(c net.Conn) (kind byte, name string, m message, err error) {
	var head [4]byte
	if _, err = io.ReadFull(c, head[:]); err != nil {
		return
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err = io.ReadFull(c, b); err != nil {
		return
	}
	return b[0], string(b[2 : 2+b[1]]), b[2+b[1]:], nil
}

func (f *fake) write(c net.Conn, kind byte, name string, m message) {
	_, _ = c.Write(packet(kind, name, m)) // the client may be gone
}

// packet is the server's way to write.
func packet(kind byte, name string, m message) []byte {
	b := []byte{kind}
	if kind == event {
		b = append(append(b, byte(len(name))), name...)
	}
	b = append(b, m...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// emit is an event for whoever asked for it.
func (f *fake) emit(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c, registered := range f.conns {
		if registered[name] {
			f.write(c, event, name, nil)
		}
	}
}

// flat is a message as paths and values.
func flat(t testing.TB, m message) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := m.each(func(at sections, key, value []byte) error {
		path := ""
		for _, s := range at {
			path += string(s) + "/"
		}
		path += string(key)
		if old, ok := all[path]; ok {
			value = []byte(old + " " + string(value))
		}
		all[path] = string(value)
		return nil
	})
	if err != nil {
		t.Errorf("read a message: %v", err)
	}
	return all
}

func (f *fake) answer(c net.Conn, command string, m message) {
	in := flat(f.t, m)
	ok := message(nil).value("success", "yes")
	no := func(why string) message { return message(nil).value("success", "no").value("errmsg", why) }
	switch command {
	case "version":
		f.write(c, cmdResponse, "", message(nil).value("daemon", "charon"))
	case "stats":
		f.write(c, cmdResponse, "", message(nil).section("ikesas", message(nil).value("total", "1")).list("plugins", "openssl", "kernel-libipsec"))
	case "list-sas":
		for _, s := range f.sas {
			if in["ike-id"] == "" || in["ike-id"] == s.id {
				f.write(c, event, "list-sa", message(nil).section(s.connection, s.body))
			}
		}
		f.write(c, cmdResponse, "", nil)
	case "list-conns":
		for name, body := range f.config {
			if in["ike"] == "" || in["ike"] == name {
				f.write(c, event, "list-conn", message(nil).section(name, body))
			}
		}
		f.write(c, cmdResponse, "", nil)
	case "get-conns":
		f.write(c, cmdResponse, "", message(nil).list("conns", slices.Collect(maps.Keys(f.loaded))...))
	case "list-certs":
		for _, body := range f.certs {
			if flat(f.t, body)["subject"] == in["subject"] {
				f.write(c, event, "list-cert", body)
			}
		}
		f.write(c, cmdResponse, "", nil)
	case "load-conn":
		for path := range in {
			name, _, _ := strings.Cut(path, "/")
			f.loaded[name] = append(message(nil), m...)
		}
		f.write(c, cmdResponse, "", ok)
	case "unload-conn":
		delete(f.loaded, in["name"])
		f.write(c, cmdResponse, "", ok)
	case "initiate":
		if f.loaded[in["ike"]] == nil {
			f.write(c, cmdResponse, "", no(fmt.Sprintf("CHILD_SA config '%s' not found", in["child"])))
			return
		}
		f.begun = append(f.begun, in["ike"]+"/"+in["child"]+" "+in["timeout"])
		if in["timeout"] == "-1" || f.fails == "" {
			f.write(c, cmdResponse, "", ok)
			return
		}
		for _, line := range f.log {
			f.write(c, event, "control-log", message(nil).value("group", "IKE").value("msg", line))
		}
		f.write(c, cmdResponse, "", no(f.fails))
	case "terminate":
		f.ended = append(f.ended, in["ike-id"])
		f.write(c, cmdResponse, "", ok)
	default:
		f.write(c, cmdUnknown, "", nil)
	}
}

// driver makes one for the fake.
func (f *fake) driver(o Options) *Driver {
	f.t.Helper()
	o.Socket = f.socket
	d, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// known is a fakeSA; settings come as "key value" and replace those of an established one.
func known(connection, id, peer, remote string, children ...message) fakeSA {
	host, port, _ := strings.Cut(remote, " ")
	body := message(nil).value("uniqueid", id).value("version", "2").value("state", "ESTABLISHED").value("local-host", "192.0.2.10").
		value("local-port", "500").value("local-id", "vip").value("remote-host", host).value("remote-port", port).value("remote-id", peer).
		value("established", "100")
	var inner message
	for _, c := range children {
		inner = append(inner, c...)
	}
	return fakeSA{connection: connection, id: id, body: body.section("child-sas", inner)}
}

// with is an SA with another value.
func (s fakeSA) with(key, value string) fakeSA {
	s.body = append(message(nil).value(key, value), without(s.body, key)...)
	return s
}

// without takes a value at the outermost level away.
func without(m message, key string) message {
	var depth int
	r := reader{rest: m}
	var out message
	for len(r.rest) > 0 {
		before := r.rest
		kind := r.byte()
		name := ""
		switch kind {
		case sectionStart, keyValue, listStart:
			name = string(r.take(int(r.byte())))
		}
		switch kind {
		case sectionStart:
			depth++
		case sectionEnd:
			depth--
		case keyValue, listItem:
			r.take(r.length())
		}
		if depth > 0 || name != key {
			out = append(out, before[:len(before)-len(r.rest)]...)
		}
	}
	return out
}

// installed is a CHILD_SA.
func installed(name, spi string, encap bool, remote ...string) message {
	m := message(nil).value("name", name).value("uniqueid", "7").value("state", "INSTALLED").value("mode", "TUNNEL").value("protocol", "ESP")
	if encap {
		m = m.value("encap", "yes")
	}
	m = m.value("spi-in", spi).value("bytes-in", "1000").value("use-in", "3").value("bytes-out", "2000").list("local-ts", "192.0.2.128/25")
	return message(nil).section(name+"-"+spi, m.list("remote-ts", remote...))
}
