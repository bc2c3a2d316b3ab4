package ca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func saved(t testing.TB, c CA) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "ca")
	if _, err := c.Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func request(t testing.TB, id Identity) []byte {
	t.Helper()
	r, _, err := newRequest(id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSign(t *testing.T) {
	c := authority(t, "prod", now)
	d1 := Identity{"prod", RoleDirector, "d1"}
	i, err := c.Sign(request(t, d1), d1, now, day)
	if err != nil || i.Key != nil || i.Identity != d1 || !i.Expires.Equal(now.Add(day)) {
		t.Fatalf("%+v, %v", i, err)
	}
	if i, err = c.Sign(request(t, d1), d1, now, 20*365*day); err != nil || !i.Expires.Equal(c.Expires()) {
		t.Errorf("longer than the authority: until %s, %v", i.Expires, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{d1.uri()}}, key)
	if err != nil {
		t.Fatal(err)
	}
	forged := request(t, d1)
	forged[len(forged)-1] ^= 1
	for _, tt := range []struct {
		name    string
		request []byte
		id      Identity
		at      time.Time
		says    string
	}{
		{"another name", request(t, Identity{"prod", RoleDirector, "d2"}), d1, now, "neither name nor role"},
		{"another role", request(t, Identity{"prod", RoleAgent, "d1"}), d1, now, "neither name nor role"},
		{"another cluster", request(t, Identity{"test", RoleDirector, "d1"}), Identity{"test", RoleDirector, "d1"}, now, "of another cluster"},
		{"an authority", request(t, c.id), c.id, now, "no other authority"},
		{"garbage", []byte("garbage"), d1, now, "read the request"},
		{"not by its key", forged, d1, now, "not signed by its key"},
		{"another kind of key", weak, d1, now, "no Ed25519"},
		{"the authority has ended", request(t, d1), d1, now.Add(authorityValidity + day), "at least a second"},
	} {
		if i, err := c.Sign(tt.request, tt.id, tt.at, day); err == nil || !strings.Contains(err.Error(), tt.says) || i.Cert != nil {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.says)
		}
	}
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		dir := saved(t, c)
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 90*day))
		put(t, d.files.Key, read(t, d.files.Key), 0o640) // its group may read it
		cert, key := read(t, d.files.Cert), read(t, d.files.Key)
		time.Sleep(60 * day)
		if err := d.Renew(t.Context(), Locally(dir, d)); err != nil {
			t.Fatal(err)
		}
		if got, want := d.Expires(), time.Now().Add(90*day); !got.Equal(want) || d.Identity().Name != "d1" {
			t.Errorf("%s until %s, want as long a life as before, %s", d.Identity(), got, want)
		}
		if bytes.Equal(cert, read(t, d.files.Cert)) || bytes.Equal(key, read(t, d.files.Key)) {
			t.Error("certificate and key are not both new")
		}
		checkModes(t, filepath.Dir(d.files.Cert), map[string]fs.FileMode{"ca.crt": 0o644, "director-d1.crt": 0o644, "director-d1.key": 0o640})
		again, err := Open(d.files, RoleDirector, "d1", nil)
		if err != nil || !again.Expires().Equal(d.Expires()) {
			t.Errorf("opened again: %v", err)
		}
		time.Sleep(91 * day)
		if err := d.Renew(t.Context(), Locally(dir, d)); err == nil || !strings.Contains(err.Error(), "expired, and renews nothing") {
			t.Errorf("after its end: %v", err)
		}
	})
}

// What comes back may be anything: the old files stay.
func TestRenewRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 90*day))
		sign := func(c CA, id Identity, validity time.Duration) Ask {
			return func(_ context.Context, r []byte) ([]byte, error) {
				x, err := x509.ParseCertificateRequest(r)
				if err != nil {
					return nil, err
				}
				i, err := c.certify(id, mustEd25519(t, x.PublicKey), time.Now(), validity)
				return i.Cert, err
			}
		}
		d1 := d.Identity()
		for _, tt := range []struct {
			name, says string
			ask        Ask
		}{
			{"an error", "is away", func(context.Context, []byte) ([]byte, error) { return nil, errors.New("the director is away") }},
			{"nothing", "of no use", func(context.Context, []byte) ([]byte, error) { return nil, nil }},
			{"another key", "does not match", func(context.Context, []byte) ([]byte, error) {
				return issue(t, c, RoleDirector, "d1", time.Now(), 365*day).Cert, nil
			}},
			{"another's name", "of director d2", sign(c, Identity{"prod", RoleDirector, "d2"}, 365*day)},
			{"another authority", "did not issue", sign(authority(t, "prod", time.Now()), d1, 365*day)},
			{"no later", "no later than", sign(c, d1, 90*day)},
		} {
			cert, key := read(t, d.files.Cert), read(t, d.files.Key)
			if err := d.Renew(t.Context(), tt.ask); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.says)
			}
			if !bytes.Equal(cert, read(t, d.files.Cert)) || !bytes.Equal(key, read(t, d.files.Key)) {
				t.Fatalf("%s: files were changed", tt.name)
			}
			checkModes(t, filepath.Dir(d.files.Cert), map[string]fs.FileMode{"ca.crt": 0o644, "director-d1.crt": 0o644, "director-d1.key": 0o600})
		}
	})
}

// A crash may come between any two steps: a daemon that starts afterwards finds a pair that is whole, and one that goes on too.
func TestRenewalCutOff(t *testing.T) {
	c := authority(t, "prod", time.Now())
	was, next := issue(t, c, RoleAgent, "node-a", time.Now(), 30*day), issue(t, c, RoleAgent, "node-a", time.Now(), 60*day)
	pair := append(bytes.Clone(next.Key), next.Cert...)
	for _, tt := range []struct {
		name            string
		cert, key, next []byte
		want            Issued
	}{
		{"next is written", was.Cert, was.Key, pair, was},
		{"the certificate is replaced", next.Cert, was.Key, pair, next},
		{"both are replaced", next.Cert, next.Key, pair, next},
		{"next is of no use", was.Cert, was.Key, []byte("garbage"), was},
		{"next is older", next.Cert, next.Key, append(bytes.Clone(was.Key), was.Cert...), next},
	} {
		t.Run(tt.name, func(t *testing.T) {
			running, _ := open(t, was)
			files := running.files
			put(t, files.next(), tt.next, 0o600)
			put(t, files.Cert, tt.cert, 0o644)
			put(t, files.Key, tt.key, 0o600)
			started, err := Open(files, RoleAgent, "node-a", running.log)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range []*Credential{running, started} {
				if !d.Expires().Equal(tt.want.Expires) || d.Alarm() != "" && !strings.Contains(d.Alarm(), "expires") {
					t.Errorf("until %s, alarm %q, want %s", d.Expires(), d.Alarm(), tt.want.Expires)
				}
			}
			if err := started.settle(); err != nil {
				t.Fatal(err)
			}
			if got := started.Expires(); got.Before(tt.want.Expires) {
				t.Errorf("until %s after it was put into place", got)
			}
			checkModes(t, filepath.Dir(files.Cert), map[string]fs.FileMode{"ca.crt": 0o644, "agent-node-a.crt": 0o644, "agent-node-a.key": 0o600})
			if _, err := tls.X509KeyPair(read(t, files.Cert), read(t, files.Key)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("neither is of use", func(t *testing.T) {
		d, _ := open(t, was)
		put(t, d.files.Cert, next.Cert, 0o644)
		put(t, d.files.next(), []byte("garbage"), 0o600)
		if _, err := Open(d.files, RoleAgent, "node-a", d.log); err == nil || !strings.Contains(err.Error(), "does not match") {
			t.Errorf("%v", err)
		}
		if err := d.settle(); err == nil {
			t.Error("it is settled")
		}
		if d.Expires().Equal(next.Expires) {
			t.Error("it went on with a key that is not its own")
		}
	})
}

// The same files may be two credentials': for streams of directors and of agents. Both renew at the same time.
func TestRenewTwice(t *testing.T) {
	c := authority(t, "prod", time.Now())
	a, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 90*day))
	b, err := Open(a.files, RoleDirector, "d1", a.log)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		both, err := c.Issue(RoleDirector, "d1", time.Now(), time.Duration(n+1)*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := both.Save(filepath.Dir(a.files.Cert)); err != nil {
			t.Fatal(err)
		}
		longer := func(of *Credential) Ask {
			return func(_ context.Context, r []byte) ([]byte, error) {
				i, err := c.Sign(r, of.Identity(), time.Now(), 100*day)
				return i.Cert, err
			}
		}
		var users sync.WaitGroup
		for _, d := range []*Credential{a, b} {
			users.Go(func() { _ = d.Renew(t.Context(), longer(d)) }) // the later one may find that it is no later
		}
		users.Wait()
		if _, err := tls.X509KeyPair(read(t, a.files.Cert), read(t, a.files.Key)); err != nil {
			t.Fatal(err)
		}
		if a.Expires().Before(time.Now().Add(99*day)) || !a.Expires().Equal(b.Expires()) {
			t.Fatalf("until %s and %s", a.Expires(), b.Expires())
		}
	}
}

// A renewal replaces what a link names, not the link.
func TestRenewThroughLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 90*day))
		link := filepath.Join(t.TempDir(), "here.crt")
		if err := os.Symlink(d.files.Cert, link); err != nil {
			t.Fatal(err)
		}
		d.files.Cert = link
		time.Sleep(time.Hour)
		if err := d.Renew(t.Context(), Locally(saved(t, c), d)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("it is no link any more: %v %v", info.Mode(), err)
		}
		if !d.Expires().Equal(time.Now().Add(90 * day)) {
			t.Errorf("until %s", d.Expires())
		}
	})
}

func TestDueAt(t *testing.T) {
	c := authority(t, "prod", now)
	times := map[time.Time]bool{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		d, _ := open(t, issue(t, c, RoleAgent, name, now, 300*day))
		at := d.DueAt()
		if at.Before(now.Add(180*day)) || at.After(now.Add(200*day)) {
			t.Errorf("%s is due after %s of 300 days", name, at.Sub(now))
		}
		if !at.Equal(d.DueAt()) {
			t.Error("it changes from look to look")
		}
		times[at] = true
	}
	if len(times) < 6 {
		t.Errorf("8 come at %d times", len(times))
	}
	short, _ := open(t, issue(t, c, RoleAgent, "a", now, 30*time.Second))
	if at := short.DueAt(); at.Before(now.Add(18*time.Second)) || at.After(now.Add(20*time.Second)) {
		t.Errorf("of 30 s it is due after %s", at.Sub(now))
	}
}

func TestRenewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		dir := saved(t, c)
		d, log := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 90*day))
		began, due := time.Now(), d.DueAt()
		var mu sync.Mutex // guards what follows, for what the race detector knows of virtual time
		var asked []time.Time
		away := true
		r := Renewer{Credential: d, Log: d.log, Ask: func(ctx context.Context, request []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Now())
			if away {
				return nil, errors.Join(errors.New("d2: it is away"), errors.New("d3: too"))
			}
			return Locally(dir, d)(ctx, request)
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		looks := func(after time.Duration, look func()) {
			t.Helper()
			time.Sleep(time.Until(began.Add(after)))
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			look()
			asked = nil
		}
		looks(due.Sub(began)-time.Second, func() {
			if len(asked) > 0 || d.Alarm() != "" {
				t.Errorf("asked after %s; alarm %q", asked[0].Sub(began), d.Alarm())
			}
		})
		looks(due.Sub(began)+24*time.Hour, func() {
			if n := len(asked); n < 19 || n > 33 || asked[0].Sub(due) > time.Second {
				t.Errorf("asked %d times in 24 hours, first %s after it was due", n, asked[0].Sub(due))
			}
		})
		looks(70*day, func() {
			if a := d.Alarm(); !strings.Contains(a, "it renews itself, but the last try, on ") || !strings.Contains(a, "failed") || !strings.Contains(a, "d2: it is away; d3: too") {
				t.Errorf("alarm %q", a)
			}
			away = false
		})
		looks(70*day+2*time.Hour, func() {
			if a := d.Alarm(); a != "" || d.Expires().Before(time.Now().Add(89*day)) {
				t.Errorf("until %s, alarm %q", d.Expires(), a)
			}
		})
		looks(195*day, func() {
			if len(asked) != 2 {
				t.Errorf("renewed %d times in 125 days with 90 each", len(asked))
			}
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "certificate not renewed"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
	})
}

// Somebody may put another certificate there, or set the clock: it is looked at again and again.
func TestRenewerLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authority(t, "prod", time.Now())
		d, _ := open(t, issue(t, c, RoleDirector, "d1", time.Now(), 90*day))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- Renewer{Credential: d, Log: d.log, Ask: Locally(saved(t, c), d)}.Run(ctx) }()
		time.Sleep(day)
		if _, err := issue(t, c, RoleDirector, "d1", time.Now(), 3*day).Save(filepath.Dir(d.files.Cert)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * day)
		synctest.Wait()
		if left := time.Until(d.Expires()); left < day {
			t.Errorf("it ends in %s", left)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func mustEd25519(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der[len(der)-32:]
}

func FuzzNext(f *testing.F) {
	c := authority(f, "prod", now)
	i := issue(f, c, RoleAgent, "node-a", now, day)
	dir := f.TempDir()
	f.Add(append(bytes.Clone(i.Key), i.Cert...))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := Files{Key: filepath.Join(dir, "k")}
		put(t, files.next(), data, 0o600)
		_, key, err := files.readNext()
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(key); len(key) > 0 && block == nil {
			t.Errorf("%q", key)
		}
	})
}
