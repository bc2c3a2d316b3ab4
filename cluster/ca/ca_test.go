package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func authority(t testing.TB, cluster string, at time.Time) CA {
	t.Helper()
	c, err := New(cluster, at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func issue(t testing.TB, c CA, role Role, name string, at time.Time, validity time.Duration) Issued {
	t.Helper()
	i, err := c.Issue(role, name, at, validity)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Another program that reads X.509 finds in a certificate who it is for, and until when.
func TestIssue(t *testing.T) {
	c := authority(t, "prod.example", now)
	if !c.cert.IsCA || !c.cert.MaxPathLenZero || c.cert.KeyUsage != x509.KeyUsageCertSign {
		t.Error("the authority may do less or more than certify")
	}
	for _, want := range []struct {
		role    Role
		name    string
		purpose []x509.ExtKeyUsage
	}{
		{RoleAgent, "node-a", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		{RoleDirector, "2001:db8::5_x.y", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}},
		{RoleAgent, strings.Repeat("x", 128), []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
	} {
		i := issue(t, c, want.role, want.name, now, 10*day)
		block, rest := pem.Decode(i.Cert)
		if block == nil || len(rest) > 0 {
			t.Fatalf("%s", i.Cert)
		}
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := x.URIs[0].String(), "tunneldirector://prod.example/"+string(want.role)+"/"+want.name; got != want {
			t.Errorf("it is for %s, want %s", got, want)
		}
		if diff := cmp.Diff(want.purpose, x.ExtKeyUsage); diff != "" {
			t.Error(diff)
		}
		list, err := Parse(i.Cert)
		if err != nil {
			t.Fatal(err)
		}
		if got := list[0]; got.Identity != i.Identity || !got.Expires.Equal(now.Add(10*day)) || !got.Expires.Equal(i.Expires) || !got.NotBefore.Equal(now.Add(-leeway)) || len(got.SHA256) != 64 {
			t.Errorf("read back: %+v", got)
		}
		if x.IsCA || x.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Error("it could certify others")
		}
	}
}

func TestState(t *testing.T) {
	year := Certificate{NotBefore: now, Expires: now.Add(365 * day)}
	week := Certificate{NotBefore: now, Expires: now.Add(7 * day)}
	for _, tt := range []struct {
		c     Certificate
		after time.Duration
		want  string
	}{
		{year, -time.Second, NotYetValid}, {year, 0, Valid}, {year, 337 * day, Valid}, {year, 337*day + time.Second, ExpiresSoon},
		{year, 365 * day, ExpiresSoon}, {year, 365*day + time.Second, Expired}, {week, 4 * day, Valid}, {week, 5 * day, ExpiresSoon},
	} {
		if got := tt.c.State(now.Add(tt.after)); got != tt.want {
			t.Errorf("after %s of %s it is %s, want %s", tt.after, tt.c.Expires.Sub(now), got, tt.want)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	c := authority(t, "prod", now)
	for _, tt := range []struct {
		name     string
		role     Role
		who      string
		validity time.Duration
		says     string
	}{
		{"no name", RoleAgent, "", day, `"" is not a name`},
		{"a path", RoleAgent, "../ca", day, "is not a name"},
		{"a slash", RoleAgent, "a/b", day, "is not a name"},
		{"too long", RoleAgent, strings.Repeat("x", 129), day, "is not a name"},
		{"a role that there is not", "admin", "a", day, `"admin" is not a role`},
		{"an authority", RoleAuthority, "a", day, "no other authority"},
		{"no time", RoleAgent, "a", 0, "at least a second"},
		{"the past", RoleAgent, "a", -day, "at least a second"},
		{"longer than the authority", RoleAgent, "a", authorityValidity + day, "the authority's own ends on 2035-12-31"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, err := c.Issue(tt.role, tt.who, now, tt.validity)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %s", err, tt.says)
			}
			if i.Key != nil {
				t.Error("a key was made all the same")
			}
		})
	}
	for _, cluster := range []string{"", "a b", "a:1", "a/b", "-a", "a.", "a..b", "a_b", "A?", strings.Repeat("x", 64)} {
		if _, err := New(cluster, now); err == nil {
			t.Errorf("a cluster may be called %q", cluster)
		}
	}
}

func TestSaveAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := authority(t, "prod", now)
	files, err := c.Save(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Cluster() != "prod" || !got.Expires().Equal(now.Add(authorityValidity)) {
		t.Errorf("read back: cluster %s until %s", got.Cluster(), got.Expires())
	}
	checkModes(t, dir, map[string]fs.FileMode{"ca.crt": 0o644, "ca.key": 0o600})
	before := read(t, files.Key)
	if _, err := authority(t, "prod", now).Save(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an authority was written over: %v", err)
	}
	if !bytes.Equal(before, read(t, files.Key)) {
		t.Error("the key is another one")
	}
	checkModes(t, dir, map[string]fs.FileMode{"ca.crt": 0o644, "ca.key": 0o600})

	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := authority(t, "prod", now).Save(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an authority's certificate was written over: %v", err)
	}
	checkModes(t, dir, map[string]fs.FileMode{"ca.crt": 0o644}) // no key of another one beside it
}

// checkModes expects these files in a directory and no others.
func checkModes(t *testing.T, dir string, want map[string]fs.FileMode) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]fs.FileMode{}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = info.Mode()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", dir, diff)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t testing.TB, path string, data []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestSaveIssued(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	c := authority(t, "prod", now)
	first, err := issue(t, c, RoleAgent, "node-a", now, day).Save(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{"ca.crt": 0o644, "agent-node-a.crt": 0o644, "agent-node-a.key": 0o600}
	checkModes(t, dir, want)
	key := read(t, first.Key)
	put(t, first.Key, key, 0o644) // somebody opened it; the next one is closed again
	second, err := issue(t, c, RoleAgent, "node-a", now, 2*day).Save(dir)
	if err != nil {
		t.Fatal(err)
	}
	checkModes(t, dir, want)
	if first != second || bytes.Equal(key, read(t, second.Key)) {
		t.Error("it was not renewed in its place")
	}
	before := read(t, second.Cert)
	_, err = issue(t, authority(t, "prod", now), RoleAgent, "node-a", now, day).Save(dir)
	if err == nil || !strings.Contains(err.Error(), "another authority's") {
		t.Errorf("another authority of that name: %v", err)
	}
	if !bytes.Equal(before, read(t, second.Cert)) {
		t.Error("half of it was written")
	}
	checkModes(t, dir, want)
}

// What is read of an authority may have been mixed up, cut off or never been one.
func TestLoadRefuses(t *testing.T) {
	c := authority(t, "prod", now)
	key, err := encodeKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	cert := encodeCert(c.cert.Raw)
	if _, err := Load(cert, key); err != nil {
		t.Fatal(err)
	}
	other := issue(t, authority(t, "prod", now), RoleAgent, "a", now, day)
	for name, files := range map[string][2][]byte{
		"swapped":        {key, cert},
		"another's key":  {cert, other.Key},
		"an agent":       {other.Cert, other.Key},
		"cut off":        {cert[:len(cert)/2], key},
		"key cut off":    {cert, key[:len(key)/2]},
		"garbage":        {[]byte("garbage"), key},
		"garbage as key": {cert, []byte{0, 1, 2}},
		"empty":          {nil, nil},
		"bad DER":        {pem.EncodeToMemory(&pem.Block{Type: certType, Bytes: []byte{0x30, 0x80}}), key},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(files[0], files[1])
			if err == nil {
				t.Fatal("it is an authority")
			}
			for _, secret := range [][]byte{key, other.Key} {
				block, _ := pem.Decode(secret)
				if bytes.Contains([]byte(err.Error()), block.Bytes) || strings.Contains(err.Error(), strings.Split(string(secret), "\n")[1]) {
					t.Error("the error tells the key")
				}
			}
		})
	}
	dir := t.TempDir()
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none there: %v", err)
	}
	put(t, filepath.Join(dir, "ca.crt"), cert, 0o644)
	put(t, filepath.Join(dir, "ca.key"), key, 0o644)
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that everybody can read: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	c := authority(f, "prod", now)
	i := issue(f, c, RoleAgent, "node-a", now, day)
	f.Add(i.Cert)
	f.Add(i.CA)
	f.Add(append(bytes.Clone(i.Cert), i.CA...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Add(i.Key)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Parse(data)
		if err != nil {
			return
		}
		for _, c := range list {
			if err := c.Identity.Validate(); err != nil {
				t.Errorf("%+v: %v", c, err)
			}
		}
	})
}
