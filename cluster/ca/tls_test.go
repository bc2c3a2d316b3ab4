package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const protocol = "tunneldirector-agent/1"

// place saves what was issued, and is where.
func place(t testing.TB, i Issued) Files {
	t.Helper()
	files, err := i.Save(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// open is a credential over files of its own, and what it logs.
func open(t testing.TB, i Issued) (*Credential, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	c, err := Open(place(t, i), i.Identity.Role, i.Identity.Name, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return c, &log
}

// shake lets a client and a server shake hands and pass a byte each way, and is what each of them says.
func shake(t testing.TB, client, server *tls.Config) (seenByServer Identity, clientErr, serverErr error) {
	t.Helper()
	a, b := net.Pipe()
	// A pipe has no buffer: who refuses in the midst of the other's words waits for ever.
	for _, end := range []net.Conn{a, b} {
		if err := end.SetDeadline(time.Now().Add(time.Second)); err != nil {
			t.Error(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		s := tls.Server(b, server)
		defer b.Close()
		if err := s.Handshake(); err != nil {
			done <- err
			return
		}
		id, err := Peer(s.ConnectionState())
		seenByServer = id
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		if err == nil {
			_, err = s.Read(make([]byte, 1))
		}
		done <- err
	}()
	c := tls.Client(a, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // a refusal by the server comes here
	}
	if clientErr == nil {
		_, clientErr = c.Write([]byte{1})
	}
	_ = a.Close()
	serverErr = <-done
	return seenByServer, clientErr, serverErr
}

func TestHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), day))
		a, _ := open(t, issue(t, c, RoleAgent, "node-a", time.Now(), day))
		who, clientErr, serverErr := shake(t, a.ClientConfig(RoleDirector, protocol), d.ServerConfig(RoleAgent, protocol))
		if clientErr != nil || serverErr != nil {
			t.Fatalf("client %v, server %v", clientErr, serverErr)
		}
		if want := (Identity{"prod", RoleAgent, "node-a"}); who != want {
			t.Errorf("the server sees %s, want %s", who, want)
		}
		if a.Identity() != who || !a.Expires().Equal(time.Now().Add(day)) || a.Alarm() != "" {
			t.Errorf("%s until %s, alarm %q", a.Identity(), a.Expires(), a.Alarm())
		}
		if _, err := Peer(tls.ConnectionState{}); err == nil {
			t.Error("nobody is somebody")
		}
		resumed, server := false, d.ServerConfig(RoleAgent, protocol)
		again := a.ClientConfig(RoleDirector, protocol)
		again.ServerName, again.ClientSessionCache = "d1", tls.NewLRUClientSessionCache(1)
		again.VerifyConnection = func(s tls.ConnectionState) error { resumed = resumed || s.DidResume; return nil }
		for range 2 {
			if _, clientErr, serverErr := shake(t, again, server); clientErr != nil || serverErr != nil {
				t.Fatalf("client %v, server %v", clientErr, serverErr)
			}
		}
		if resumed {
			t.Error("a stream goes on by what was verified once")
		}
	})
}

// Whoever is not an agent of this cluster, today, is refused by the server, and the other way round.
func TestPeersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := authority(t, "prod", start)
		another := authority(t, "prod", start) // by name the same
		renamed := c
		renamed.id.Cluster = "test" // the same key for two clusters
		d, _ := open(t, issue(t, c, RoleDirector, "d1", start, 365*day))
		a, _ := open(t, issue(t, c, RoleAgent, "node-a", start, 365*day))
		short := issue(t, c, RoleAgent, "node-a", start, day)
		early := issue(t, c, RoleAgent, "node-a", start.Add(7*day), day)
		shortDirector := issue(t, c, RoleDirector, "d1", start, day)
		time.Sleep(2 * day)
		server, client := d.ServerConfig(RoleAgent, protocol), a.ClientConfig(RoleDirector, protocol)
		if _, err1, err2 := shake(t, client, server); err1 != nil || err2 != nil {
			t.Fatalf("client %v, server %v", err1, err2)
		}
		plain := func(i Issued, edit func(*tls.Config)) *tls.Config {
			pair, err := tls.X509KeyPair(i.Cert, i.Key)
			if err != nil {
				t.Fatal(err)
			}
			x := &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, NextProtos: []string{protocol}, ClientAuth: tls.RequestClientCert}
			if edit != nil {
				edit(x)
			}
			return x
		}
		good := issue(t, c, RoleAgent, "node-a", start, 365*day)
		for _, tt := range []struct {
			name   string
			client *tls.Config
			says   string
		}{
			{"no certificate", &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}, "didn't provide a certificate"},
			{"another authority of the same name", plain(issue(t, another, RoleAgent, "node-a", start, 365*day), nil), "signed by unknown authority"},
			{"another cluster of the same authority", plain(issue(t, renamed, RoleAgent, "node-a", start, 365*day), nil), "this is cluster prod"},
			{"a director", plain(issue(t, c, RoleDirector, "node-a", start, 365*day), nil), "wanted is the role agent"},
			{"the authority itself", plain(Issued{Cert: encodeCert(c.cert.Raw), Key: mustKey(t, c)}, nil), "wanted is the role agent"},
			{"by an agent's key", plain(byAgent(t, good), nil), "signed by unknown authority"},
			{"expired", plain(short, nil), "expired or is not yet valid"},
			{"not yet valid", plain(early, nil), "expired or is not yet valid"},
			{"not a name of ours", plain(signed(t, c, "tunneldirector://prod/agent/a/b"), nil), "is not a name"},
			{"a port beside the cluster", plain(signed(t, c, "tunneldirector://prod:1/agent/a"), nil), "is not the name of a cluster"},
			{"more than a name", plain(signed(t, c, "tunneldirector://prod/agent/a?x=1"), nil), "has more than"},
			{"user and name", plain(signed(t, c, "tunneldirector://x@prod/agent/a"), nil), "has more than"},
			{"two names", plain(signed(t, c, "tunneldirector://prod/agent/a", "tunneldirector://prod/agent/b"), nil), "lacks the one URI"},
			{"no name", plain(signed(t, c), nil), "lacks the one URI"},
			{"another scheme", plain(signed(t, c, "spiffe://prod/agent/a"), nil), "lacks the one URI"},
			{"another protocol", plain(good, func(x *tls.Config) { x.NextProtos = []string{"h2"} }), "unsupported application protocols"},
			{"no protocol", plain(good, func(x *tls.Config) { x.NextProtos = nil }), "does not speak"},
			{"TLS 1.2", plain(good, func(x *tls.Config) { x.MaxVersion = tls.VersionTLS12 }), "unsupported versions"},
		} {
			if _, clientErr, serverErr := shake(t, tt.client, server); clientErr == nil || serverErr == nil || !strings.Contains(serverErr.Error(), tt.says) {
				t.Errorf("%s: client %v, server %v, want %s", tt.name, clientErr, serverErr, tt.says)
			}
		}
		for _, tt := range []struct {
			name   string
			server *tls.Config
			says   string
		}{
			{"another authority of the same name", plain(issue(t, another, RoleDirector, "d1", start, 365*day), nil), "signed by unknown authority"},
			{"an agent", plain(good, nil), "incompatible key usage"},
			{"a server that may be one", plain(signed(t, c, "tunneldirector://prod/agent/d1"), nil), "wanted is the role director"},
			{"expired", plain(shortDirector, nil), "expired or is not yet valid"},
			{"no protocol", plain(issue(t, c, RoleDirector, "d1", start, 365*day), func(x *tls.Config) { x.NextProtos = nil }), "does not speak"},
		} {
			if _, clientErr, _ := shake(t, client, tt.server); clientErr == nil || !strings.Contains(clientErr.Error(), tt.says) {
				t.Errorf("server is %s: client %v, want %s", tt.name, clientErr, tt.says)
			}
		}
	})
}

func mustKey(t *testing.T, c CA) []byte {
	t.Helper()
	key, err := encodeKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signed is a certificate of the authority with any URIs.
func signed(t *testing.T, c CA, uris ...string) Issued {
	t.Helper()
	i := issue(t, c, RoleAgent, "node-a", time.Now(), day)
	pair, err := tls.X509KeyPair(i.Cert, i.Key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{NotBefore: pair.Leaf.NotBefore, NotAfter: pair.Leaf.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, DNSNames: []string{"prod"}}
	for _, s := range uris {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, pair.Leaf.PublicKey, c.key)
	if err != nil {
		t.Fatal(err)
	}
	i.Cert = encodeCert(der)
	return i
}

// byAgent is a certificate that an agent made for somebody, with its own beside.
func byAgent(t *testing.T, agent Issued) Issued {
	t.Helper()
	pair, err := tls.X509KeyPair(agent.Cert, agent.Key)
	if err != nil {
		t.Fatal(err)
	}
	issuer := CA{agent.Identity, pair.Leaf, pair.PrivateKey.(crypto.Signer)}
	i := issue(t, issuer, RoleAgent, "node-b", time.Now(), day)
	i.Cert = append(i.Cert, agent.Cert...)
	return i
}

func TestOpenRefuses(t *testing.T) {
	c := authority(t, "prod", now)
	files := place(t, issue(t, c, RoleAgent, "node-a", now, day))
	open := filepath.Join(t.TempDir(), "open.key")
	put(t, open, read(t, files.Key), 0o644)
	garbage := filepath.Join(t.TempDir(), "garbage")
	put(t, garbage, bytes.Repeat([]byte{0, 0xff, '-', '\n'}, 1000), 0o600)
	large := filepath.Join(t.TempDir(), "large")
	put(t, large, make([]byte, maxFile+1), 0o600)
	empty := filepath.Join(t.TempDir(), "empty")
	put(t, empty, nil, 0o600)
	other := place(t, issue(t, authority(t, "prod", now), RoleAgent, "node-a", now, day))
	test := place(t, issue(t, authority(t, "test", now), RoleAgent, "node-a", now, day))
	for _, tt := range []struct {
		name  string
		files Files
		says  string
	}{
		{"certificate and key swapped", Files{files.Key, files.Cert, files.CA}, "chmod 600"},
		{"key for certificate", Files{files.Key, files.Key, files.CA}, "failed to find certificate PEM data in certificate input, but did find a private key"},
		{"another's key", Files{files.Cert, other.Key, files.CA}, "private key does not match public key"},
		{"another authority", Files{files.Cert, files.Key, other.CA}, "the authority did not issue the certificate"},
		{"another cluster's authority", Files{files.Cert, files.Key, test.CA}, "has cluster test, and the certificate is that of agent node-a of cluster prod"},
		{"its own authority", Files{files.Cert, files.Key, files.Cert}, "is no authority's"},
		{"key for authority", Files{files.Cert, files.Key, files.Key}, `holds a "PRIVATE KEY"`},
		{"open key", Files{files.Cert, open, files.CA}, "open to others"},
		{"garbage certificate", Files{garbage, files.Key, files.CA}, "failed to find any PEM data"},
		{"garbage key", Files{files.Cert, garbage, files.CA}, "failed to find any PEM data"},
		{"garbage authority", Files{files.Cert, files.Key, garbage}, "holds no certificate"},
		{"empty authority", Files{files.Cert, files.Key, empty}, "holds no certificate"},
		{"large", Files{large, files.Key, files.CA}, "more than"},
		{"a directory", Files{t.TempDir(), files.Key, files.CA}, "is not a file"},
		{"no certificate", Files{files.Cert + "x", files.Key, files.CA}, "no such file"},
		{"no key", Files{files.Cert, files.Key + "x", files.CA}, "no such file"},
		{"no authority", Files{files.Cert, files.Key, files.CA + "x"}, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(tt.files, RoleAgent, "node-a", slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %s", err, tt.says)
			}
		})
	}
	for _, who := range []Identity{{Role: RoleDirector, Name: "node-a"}, {Role: RoleAgent, Name: "node-b"}} {
		if _, err := Open(files, who.Role, who.Name, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "is that of agent node-a of cluster prod") {
			t.Errorf("as %s %s: %v", who.Role, who.Name, err)
		}
	}
	if _, err := Open(files, RoleAgent, "node-a", slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("expired long ago, which is for Alarm to say: %v", err)
	}
}

// The files are renewed while streams come and go; what is of no use leaves the ones before in use.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, log := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 90*day))
		a, _ := open(t, issue(t, c, RoleAgent, "node-a", time.Now(), 400*day))
		works := func(want bool) {
			t.Helper()
			_, err1, err2 := shake(t, a.ClientConfig(RoleDirector, protocol), d.ServerConfig(RoleAgent, protocol))
			if (err1 == nil && err2 == nil) != want {
				t.Errorf("client %v, server %v", err1, err2)
			}
		}
		alarms := func(words string) {
			t.Helper()
			if got := d.Alarm(); words == "" && got != "" || !strings.Contains(got, words) {
				t.Errorf("alarm %q, want %q", got, words)
			}
		}
		works(true)
		alarms("")
		time.Sleep(70 * day)
		alarms("expires on ")
		put(t, d.files.Cert, []byte("garbage"), 0o644)
		works(true)
		works(true)
		alarms("was not renewed")
		if n := strings.Count(log.String(), "certificate not renewed"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
		if err := os.Remove(d.files.Cert); err != nil {
			t.Fatal(err)
		}
		works(true)
		alarms("no such file")
		next := issue(t, c, RoleDirector, "d1", time.Now(), 90*day)
		put(t, d.files.Cert, next.Cert, 0o644) // the key is still the old one
		works(true)
		alarms("does not match")
		put(t, d.files.Key, next.Key, 0o600)
		works(true)
		alarms("")
		if got := d.Expires(); !got.Equal(time.Now().Add(90 * day)) {
			t.Errorf("valid until %s", got)
		}
		if strings.Count(log.String(), "certificate renewed") != 1 {
			t.Errorf("log:\n%s", log)
		}
		put(t, d.files.Cert, issue(t, c, RoleDirector, "d2", time.Now(), day).Cert, 0o644)
		alarms("was not renewed")
		put(t, d.files.Cert, next.Cert, 0o644) // what was there before
		alarms("")
		log.Reset()
		put(t, d.files.Cert, []byte("garbage"), 0o644)
		works(true)
		put(t, d.files.Cert, next.Cert, 0o644)
		works(true)
		put(t, d.files.Cert, []byte("garbage"), 0o644)
		works(true)
		put(t, d.files.Cert, next.Cert, 0o644)
		if n := strings.Count(log.String(), "certificate not renewed"); n != 2 {
			t.Errorf("it broke twice, and was said %d times", n)
		}
		time.Sleep(91 * day)
		works(false)
		alarms("expired on ")
		if _, err := issue(t, c, RoleDirector, "d1", time.Now(), 90*day).Save(filepath.Dir(d.files.Cert)); err != nil {
			t.Fatal(err)
		}
		works(true)
		alarms("")
	})
}

// No handshake fails while files are replaced, one after another as they have to be.
func TestRenewalUnderUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), day))
		a, _ := open(t, issue(t, c, RoleAgent, "node-a", time.Now(), day))
		server, client := d.ServerConfig(RoleAgent, protocol), a.ClientConfig(RoleDirector, protocol)
		renewed := make(chan struct{})
		var users sync.WaitGroup
		for range 4 {
			users.Go(func() {
				for {
					if _, err1, err2 := shake(t, client, server); err1 != nil || err2 != nil {
						t.Errorf("client %v, server %v", err1, err2)
						return
					}
					select {
					case <-renewed:
						return
					default:
					}
				}
			})
		}
		for n := range 20 {
			for of, role := range map[*Credential]Role{d: RoleDirector, a: RoleAgent} {
				if _, err := issue(t, c, role, of.name, time.Now(), time.Duration(n+2)*day).Save(filepath.Dir(of.files.Cert)); err != nil {
					t.Error(err)
				}
			}
		}
		close(renewed)
		users.Wait()
		if want := time.Now().Add(21 * day); d.Expires().Before(want.Add(-time.Minute)) || a.Expires().Before(want.Add(-time.Minute)) {
			t.Errorf("valid until %s and %s, want %s", d.Expires(), a.Expires(), want)
		}
	})
}

// An authority is changed: while both are in ca.crt, certificates of either are good.
func TestNewAuthority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := authority(t, "prod", time.Now()), authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, old, RoleDirector, "d1", time.Now(), day))
		a, _ := open(t, issue(t, next, RoleAgent, "node-a", time.Now(), day))
		both := append(encodeCert(old.cert.Raw), encodeCert(next.cert.Raw)...)
		server, client := d.ServerConfig(RoleAgent, protocol), a.ClientConfig(RoleDirector, protocol)
		if _, err1, err2 := shake(t, client, server); err1 == nil || err2 == nil {
			t.Fatalf("client %v, server %v", err1, err2)
		}
		put(t, d.files.CA, both, 0o644)
		put(t, a.files.CA, both, 0o644)
		if _, err1, err2 := shake(t, client, server); err1 != nil || err2 != nil {
			t.Fatalf("client %v, server %v", err1, err2)
		}
		put(t, d.files.CA, encodeCert(next.cert.Raw), 0o644)
		if s := d.Alarm(); !strings.Contains(s, "did not issue") {
			t.Errorf("alarm %q", s)
		}
	})
}

// A clock that is wrong is said, and is no end.
func TestAlarmOfClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now().Add(2*time.Hour), day))
		if s := d.Alarm(); !strings.Contains(s, "set the clock") {
			t.Errorf("alarm %q", s)
		}
		time.Sleep(time.Hour)
		if s := d.Alarm(); s != "" {
			t.Errorf("alarm %q", s)
		}
		if err := os.Chmod(d.files.Key, 0o644); err != nil {
			t.Fatal(err)
		}
		if s := d.Alarm(); !strings.Contains(s, "chmod 600") {
			t.Errorf("alarm %q", s)
		}
	})
}
