package strongswan

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/director/agent"
	"tunneldirector/realserver/terminator"
)

// sites is the connection of a terminator, as list-conns tells it.
func sites(class string) message {
	local := message(nil).value("class", class).value("id", "vip").list("certs", "CN=vip")
	remote := message(nil).value("class", class).value("id", "%any").list("groups", "g").list("cacerts", "CN=laboratory")
	net := message(nil).value("mode", "TUNNEL").value("rekey_time", "3600").value("rekey_bytes", "0").value("dpd_action", "clear").value("close_action", "none").
		list("local-ts", "192.0.2.128/25").list("remote-ts", "100.64.0.0/10", "2001:db8:64::/48")
	return message(nil).list("local_addrs", "192.0.2.10").list("remote_addrs", "%any").value("local_port", "500").value("remote_port", "500").
		value("version", "IKEv2").value("reauth_time", "0").value("rekey_time", "14400").value("unique", "UNIQUE_REPLACE").value("dpd_delay", "30").
		section("local-1", local).section("remote-1", remote).section("children", message(nil).section("net", net))
}

func certificateOf(subject, key string) message {
	return message(nil).value("type", "X509").value("subject", subject).value("has_privkey", key).value("data", "DER of "+subject)
}

func inherited(peer, endpoint string, subnets ...string) agent.Inherited {
	return agent.Inherited{ID: "t1", Peer: peer, Local: netip.MustParseAddr("192.0.2.10"), Endpoint: netip.MustParseAddrPort(endpoint), Subnets: prefixes(subnets...)}
}

// TestCopy: what is loaded to begin a tunnel, in charon's words.
func TestCopy(t *testing.T) {
	native := map[string]string{
		"version": "2", "mobike": "no", "keyingtries": "1", "unique": "replace", "dpd_delay": "30", "rekey_time": "14400", "reauth_time": "0",
		"local_addrs": "192.0.2.10", "remote_addrs": "203.0.113.11", "proposals": "default",
		"local/auth": "pubkey", "local/id": "vip", "local/certs": "DER of CN=vip",
		"remote/auth": "pubkey", "remote/id": "site 1", "remote/groups": "g", "remote/cacerts": "DER of CN=laboratory",
		"children/net/mode": "tunnel", "children/net/rekey_time": "3600", "children/net/rekey_bytes": "0",
		"children/net/dpd_action": "clear", "children/net/close_action": "none", "children/net/start_action": "none",
		"children/net/local_ts": "192.0.2.128/25", "children/net/remote_ts": "100.64.1.0/28", "children/net/esp_proposals": anyESP[0] + " " + anyESP[1],
	}
	with := func(changes ...string) map[string]string {
		all := map[string]string{}
		for k, v := range native {
			all[k] = v
		}
		for i := 0; i < len(changes); i += 2 {
			if all[changes[i]] = changes[i+1]; changes[i+1] == "" {
				delete(all, changes[i])
			}
		}
		return all
	}
	for _, tt := range []struct {
		name    string
		options Options
		config  message
		t       agent.Inherited
		want    map[string]string
		wait    bool
	}{
		{name: "native", config: sites("public key"), t: inherited("sites site 1", "203.0.113.11:0", "100.64.1.0/28"), want: native},
		{
			name: "behind NAT", config: sites("public key"), t: inherited("sites site 1", "203.0.113.254:10377", "100.64.1.0/28"),
			want: with("remote_addrs", "203.0.113.254", "local_port", "4500", "remote_port", "10377"),
		},
		{
			name: "secret", config: bare(sites("pre-shared key")), t: inherited("sites site 1", "203.0.113.11:0", "100.64.1.0/28"),
			want: with("local/auth", "psk", "remote/auth", "psk", "local/certs", "", "remote/cacerts", ""),
		},
		{
			name: "subnets not told", config: sites("public key"), t: inherited("sites site 1", "203.0.113.11:0"),
			want: with("children/net/remote_ts", "100.64.0.0/10 2001:db8:64::/48"),
		},
		{
			name: "peer not told", config: sites("public key"), t: inherited("", "203.0.113.11:0", "100.64.1.0/28"),
			want: with("remote/id", ""),
		},
		{
			name: "settings that charon does not tell", options: Options{Child: map[string]string{"if_id_in": "7"}, Proposals: []string{"aes256-sha1-modp1024"}},
			config: sites("public key"), t: inherited("sites site 1", "203.0.113.11:0", "100.64.1.0/28"),
			want: with("children/net/if_id_in", "7", "proposals", "aes256-sha1-modp1024"),
		},
		{name: "EAP", config: sites("EAP"), t: inherited("sites site 1", "203.0.113.11:0"), wait: true},
		{name: "IKEv1", config: append(message(nil).value("version", "IKEv1"), without(sites("public key"), "version")...), t: inherited("sites site 1", "203.0.113.11:0"), wait: true},
		{name: "of no connection", config: sites("public key"), t: inherited("others site 1", "203.0.113.11:0"), wait: true},
		{name: "of no CHILD_SA", config: sites("public key"), t: inherited("sites site 1", "203.0.113.11:0", "10.0.0.0/8"), wait: true},
		{name: "not told, and of no CHILD_SA", config: sites("public key"), t: inherited("", "203.0.113.11:0", "10.0.0.0/8"), wait: true},
		{name: "the other family", config: sites("public key"), t: inherited("sites site 1", "[2001:db8::1]:0"), wait: true},
		{name: "not the real server's", options: Options{Connections: "mine-*"}, config: sites("public key"), t: inherited("sites site 1", "203.0.113.11:0"), wait: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t)
			f.config["sites"] = tt.config
			f.certs = []message{certificateOf("CN=laboratory", ""), certificateOf("CN=vip", "yes")}
			d := f.driver(tt.options)
			c, identity, err := d.connectionOf(t.Context(), tt.t)
			var copied copied
			if err == nil {
				copied, err = d.copy(t.Context(), c, identity, tt.t)
			}
			if tt.wait {
				if !errors.Is(err, terminator.ErrWait) {
					t.Errorf("error %v, want one that says to wait", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for path, value := range flat(t, copied.load) {
				got[path[len(copyName("t1", "sites"))+1:]] = value
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("loaded (-want +got):\n%s", diff)
			}
		})
	}
}

// bare is a connection without certificates.
func bare(m message) message {
	var out message
	r := reader{rest: m}
	for len(r.rest) > 0 {
		before := r.rest
		kind := r.byte()
		skip := false
		switch kind {
		case sectionStart, keyValue, listStart:
			name := string(r.take(int(r.byte())))
			skip = name == "certs" || name == "cacerts"
		}
		switch kind {
		case keyValue, listItem:
			r.take(r.length())
		case listStart:
			for skip && r.byte() == listItem {
				r.take(r.length())
			}
		}
		if !skip {
			out = append(out, before[:len(before)-len(r.rest)]...)
		}
	}
	return out
}

func TestAdopt(t *testing.T) {
	f := startFake(t)
	f.config["sites"] = sites("public key")
	f.certs = []message{certificateOf("CN=laboratory", ""), certificateOf("CN=vip", "yes")}
	name := copyName("t1", "sites")
	f.sas = []fakeSA{
		known("sites", "1", "site-1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.1.0/28")),
		known("sites", "2", "site-2", "203.0.113.12 500", installed("net", "c0000002", false, "100.64.2.0/28")),
		known(name, "3", "%any", "203.0.113.11 500").with("state", "CONNECTING"),
		known(copyName("t2", "sites"), "4", "%any", "203.0.113.12 500").with("state", "CONNECTING"),
	}
	d := f.driver(Options{})
	if _, err := d.Tunnels(t.Context()); err != nil {
		t.Fatal(err)
	}
	site := inherited("sites site-1", "203.0.113.11:0", "100.64.1.0/28")
	if err := d.Adopt(t.Context(), site); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{name + "/net -1"}, f.begun); diff != "" {
		t.Errorf("begun (-want +got):\n%s", diff)
	}
	if slices.Sort(f.ended); !slices.Equal(f.ended, []string{"1", "3"}) {
		t.Errorf("ended %v, want what was stale of this tunnel", f.ended)
	}
	if len(f.loaded) > 0 {
		t.Errorf("left behind: %v", f.loaded)
	}
	// The second time it waits for what charon says.
	for _, tt := range []struct {
		log, fails string
		wait, ok   bool
	}{
		{log: "no private key found for 'vip'", fails: "establishing CHILD_SA 'net' failed", wait: true},
		{log: "received AUTHENTICATION_FAILED notify error", fails: "establishing CHILD_SA 'net' failed", wait: true},
		{log: "sending packet", fails: "CHILD_SA 'net' not established after 1000ms", ok: true},
		{log: "sending packet", fails: "establishing CHILD_SA 'net' not possible at the moment due to limits"},
		{ok: true},
	} {
		f.log, f.fails = []string{"initiating IKE_SA", tt.log}, tt.fails
		err := d.Adopt(t.Context(), site)
		if (err == nil) != tt.ok || errors.Is(err, terminator.ErrWait) != tt.wait {
			t.Errorf("%q, %q: error %v", tt.log, tt.fails, err)
		}
		if len(f.loaded) > 0 {
			t.Errorf("%q: left behind: %v", tt.log, f.loaded)
		}
	}
}

// TestKeyMissing: a certificate without its key begins nothing.
func TestKeyMissing(t *testing.T) {
	f := startFake(t)
	f.config["sites"] = sites("public key")
	f.certs = []message{certificateOf("CN=laboratory", ""), certificateOf("CN=vip", "")}
	err := f.driver(Options{}).Adopt(t.Context(), inherited("sites site-1", "203.0.113.11:0"))
	if !errors.Is(err, terminator.ErrWait) || len(f.begun) > 0 {
		t.Errorf("error %v, begun %v", err, f.begun)
	}
}

func TestRelease(t *testing.T) {
	f := startFake(t)
	f.sas = []fakeSA{
		known("sites", "1", "site-1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.1.0/28")),
		known("sites", "2", "site-2", "203.0.113.12 500", installed("net", "c0000002", false, "100.64.2.0/28")),
		known(copyName("t1", "sites"), "3", "site-1", "203.0.113.11 500", installed("net", "c0000003", false, "100.64.1.0/28")),
	}
	d := f.driver(Options{})
	for range 2 {
		if err := d.Release(t.Context(), inherited("sites site-1", "203.0.113.11:0")); err != nil {
			t.Fatal(err)
		}
		f.sas = f.sas[1:2]
	}
	if slices.Sort(f.ended); !slices.Equal(f.ended, []string{"1", "3"}) {
		t.Errorf("ended %v, want both of site-1 once", f.ended)
	}
	if err := d.Release(t.Context(), inherited("sites site-9", "203.0.113.19:0")); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	// A number that charon has given to another tunnel meanwhile is left alone.
	if _, err := d.Tunnels(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.sas = []fakeSA{known("sites", "2", "site-7", "203.0.113.17 500", installed("net", "c0000007", false, "100.64.7.0/28"))}
	f.ended = nil
	if err := d.Release(t.Context(), inherited("sites site-2", "203.0.113.12:0")); err != nil || len(f.ended) > 0 {
		t.Errorf("error %v, ended %v", err, f.ended)
	}
}

func TestAccept(t *testing.T) {
	if err := startFake(t).driver(Options{}).Accept(t.Context(), false); !errors.Is(err, terminator.ErrCannot) {
		t.Errorf("error %v", err)
	}
}

// TestSweep: what an earlier run left loaded is unloaded once, an operator's connections stay.
func TestSweep(t *testing.T) {
	f := startFake(t)
	f.loaded[copyName("t1", "sites")], f.loaded[copyName("t2", "sites")], f.loaded["sites"] = message{}, message{}, message{}
	d := f.driver(Options{})
	d.hold(copyName("t2", "sites"), true)
	for range 2 {
		if _, err := d.Tunnels(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if f.loaded["sites"] == nil || f.loaded[copyName("t2", "sites")] == nil || len(f.loaded) != 2 || f.asked["get-conns"] != 1 {
		t.Errorf("loaded: %v, asked %v", f.loaded, f.asked)
	}
}
