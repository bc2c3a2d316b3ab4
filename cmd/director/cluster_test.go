package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/cluster/ca"
	"tunneldirector/cluster/gossip"
	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
	"tunneldirector/director/config"
)

const plainNode = "# a node\nname: NAME\nplane: mem"

// Two commands, and what goes between them, make two directors of one cluster out of two that were alone.
func TestJoining(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"d1", "d2"} {
		put(t, name+".yaml", strings.ReplaceAll(plainNode, "NAME", name))
	}
	alone := func(args string) {
		t.Helper()
		runIn(t.Context(), t, strings.NewReader(""), nil, strings.Fields(args)...).Exits(console.ExitOK)
	}
	alone("cluster init --dir c1 --cluster prod --name d1 --listen 10.0.0.1 --heartbeat 10.0.0.1 --heartbeat 172.16.0.1 --join directors.example --write d1.yaml")
	alone("cluster invite d2 --rank 2 --config d1.yaml --out d2.invitation")
	alone("cluster join d2.invitation --dir c2 --listen [2001:db8::2]:17462 --write d2.yaml")
	var got []config.Cluster
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"d1", "d2"} {
		cfg, err := config.Read(name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if text := read(t, name+".yaml"); !strings.HasPrefix(text, "# a node\nname: ") {
			t.Errorf("the rest of the node's file is not as it was: %s", text)
		}
		got = append(got, *cfg.Cluster)
		own, err := ca.Open(ca.Files(cfg.Cluster.TLS), ca.RoleDirector, name, slog.New(slog.DiscardHandler))
		if err != nil || own.Identity().Cluster != "prod" {
			t.Errorf("%s: %v", name, err)
		}
	}
	d1, d2 := got[0], got[1]
	if d1.Authority != filepath.Join(dir, "c1/authority") || d2.Authority != "" {
		t.Errorf("authority of d1 in %q, of d2 in %q", d1.Authority, d2.Authority)
	}
	if d1.Rank != 1 || d2.Rank != 2 || d1.Name != "prod" || d2.Name != "prod" || d1.Role != "both" {
		t.Errorf("%+v %+v", d1, d2)
	}
	if len(d1.Heartbeat) != 2 || d1.Heartbeat[1].String() != "172.16.0.1:7464" || d2.Listen.String() != "[2001:db8::2]:17462" || d2.Gossip.String() != "[2001:db8::2]:7463" {
		t.Errorf("%+v %+v", d1, d2)
	}
	if diff := cmp.Diff([]string{"10.0.0.1:7463", "directors.example:7463"}, d2.Join); diff != "" {
		t.Error(diff)
	}
	ring1, err1 := gossip.OpenKeyring(d1.Keyring)
	ring2, err2 := gossip.OpenKeyring(d2.Keyring)
	if err1 != nil || err2 != nil || !bytes.Equal(ring1.Keys()[0], ring2.Keys()[0]) {
		t.Errorf("the rings differ: %v %v", err1, err2)
	}
	if api.KeyFingerprint(ring1.Keys()[0]) != gossip.Fingerprint(ring1.Keys()[0]) {
		t.Error("a key has two fingerprints")
	}
	for path, mode := range map[string]os.FileMode{"c1": 0o700, "c2": 0o700, "c1/keyring": 0o600, "c2/keyring": 0o600, "c2/director-d2.key": 0o600, "c1/authority/ca.key": 0o600, "d2.invitation": 0o600, "d2.yaml": 0o640} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v, want %v", path, info.Mode(), err, mode)
		}
	}
	if left, _ := filepath.Glob(".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Each step is a command line in a directory that the steps before filled.
func TestClusterFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "d1.yaml", strings.ReplaceAll(plainNode, "NAME", "d1"))
	put(t, "d2.yaml", strings.ReplaceAll(plainNode, "NAME", "d2"))
	put(t, "bad.yaml", "name: d1\nplan: mem\n")
	for _, s := range []struct {
		args string
		code int
		out  []string
		errs []string
	}{
		{args: "cluster init --cluster prod --name d1", code: console.ExitUsage, errs: []string{"lacks --listen"}},
		{args: "cluster init --dir c --cluster prod --name d1 --listen 0.0.0.0", code: console.ExitUsage, errs: []string{"0.0.0.0:7462 is every address"}},
		{args: "cluster init --dir c --cluster prod --name d1 --listen d1", code: console.ExitUsage, errs: []string{"--listen d1: is not an address"}},
		{args: "cluster init --dir c --cluster prod --name d1 --listen 10.0.0.1 --rank 17", code: console.ExitUsage, errs: []string{"cluster.rank"}},
		{args: "cluster init --dir c --cluster prod --name d1 --listen 10.0.0.1 --side left", code: console.ExitUsage, errs: []string{"cluster.role"}},
		{args: "cluster init --dir c --cluster pr_od --name d1 --listen 10.0.0.1", code: console.ExitUsage, errs: []string{"is not the name of a cluster"}},
		{args: "cluster init --dir c --cluster prod --name d2 --listen 10.0.0.1 --write d1.yaml", code: console.ExitFailed, errs: []string{"is the file of director d1"}},
		{args: "cluster init --dir c --cluster prod --name d1 --listen 10.0.0.1 --write bad.yaml", code: console.ExitFailed, errs: []string{"bad.yaml", "plan"}},
		{args: "cluster init --dir c --cluster prod --name d1 --listen 10.0.0.1 --write none.yaml", code: console.ExitFailed, errs: []string{"the node's file comes first"}},
		{args: "cluster init --dir p --cluster prod --name d1 --listen 10.0.0.1", out: []string{"cluster:\n  name: prod\n  rank: 1\n  listen: 10.0.0.1:7462\n  keyring: ", "/p/keyring\n", "  authority: "}, errs: []string{"1. put the section printed above", "cluster invite NAME"}},
		{args: "cluster init --dir p --cluster prod --name d1 --listen 10.0.0.1", code: console.ExitFailed, errs: []string{"/p holds authority and perhaps more already, which stays"}},
		{args: "cluster init --dir c --cluster prod --name d1 --listen 10.0.0.1 --write d1.yaml --json", out: []string{`{"cluster":"prod","name":"d1","dir":"`, `"written":"d1.yaml"`, `"next":["director check`}},
		{args: "cluster init --dir c2 --cluster prod --name d1 --listen 10.0.0.1 --write d1.yaml", code: console.ExitFailed, errs: []string{"has a section cluster already"}},
		{args: "cluster invite d2 --rank 2 --config d2.yaml", code: console.ExitFailed, errs: []string{"d2.yaml has no section cluster"}},
		{args: "cluster invite d2 --config d1.yaml", code: console.ExitUsage, errs: []string{"--rank 0"}},
		{args: "cluster invite d2 --rank 1 --config d1.yaml", code: console.ExitUsage, errs: []string{"is that of this director, d1"}},
		{args: "cluster invite d1 --rank 2 --config d1.yaml", code: console.ExitUsage, errs: []string{"d1 is this director"}},
		{args: "cluster invite a/b --rank 2 --config d1.yaml", code: console.ExitFailed, errs: []string{"is not a name"}},
		{args: "cluster invite d2 --rank 2 --side up --config d1.yaml", code: console.ExitUsage, errs: []string{"--side up"}},
		{args: "cluster invite d2 --rank 2 --config d1.yaml --out d2.invitation", errs: []string{"is SECRET", "director cluster join d2.invitation --listen"}},
		{args: "cluster invite d2 --rank 2 --config d1.yaml --out d2.invitation", code: console.ExitFailed, errs: []string{"d2.invitation is there already, and stays"}},
		{args: "cluster join d2.invitation --dir j", code: console.ExitUsage, errs: []string{"lacks --listen"}},
		{args: "cluster join d1.yaml --dir j --listen 10.0.0.2", code: console.ExitFailed, errs: []string{"d1.yaml is not an invitation"}},
		{args: "cluster join d2.invitation --dir c --listen 10.0.0.2", code: console.ExitFailed, errs: []string{"/c holds authority"}},
		{args: "cluster join d2.invitation --dir j --listen 10.0.0.2 --write d1.yaml", code: console.ExitFailed, errs: []string{"d1.yaml has a section cluster already"}},
		{args: "cluster join d2.invitation --dir j --listen 10.0.0.2", out: []string{"rank: 2\n  role: both\n  listen: 10.0.0.2:7462\n  join: [\"10.0.0.1:7463\"]\n"}, errs: []string{"delete the invitation"}},
		{args: "cluster invite d3 --rank 3 --config d2.yaml", code: console.ExitFailed, errs: []string{"no section cluster"}},
		{args: "cluster", code: console.ExitUsage, errs: []string{"needs a command: init, invite, join, members"}},
		{args: "__complete -- cluster invite d9 --side s", out: []string{"subnet\t"}},
	} {
		runIn(t.Context(), t, strings.NewReader(""), nil, strings.Fields(s.args)...).Exits(s.code, s.out...).Tells(s.errs...)
	}
	for _, not := range []string{"c2"} {
		if _, err := os.Stat(not); err == nil {
			t.Errorf("a refused command made %s", not)
		}
	}
	if read(t, "d2.yaml") != strings.ReplaceAll(plainNode, "NAME", "d2") {
		t.Error("a file that was not named was written")
	}
}

// An invitation to standard output closes the file that it goes to; a terminal gets none.
func TestInvitationToStandardOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "d1.yaml", strings.ReplaceAll(plainNode, "NAME", "d1"))
	runIn(t.Context(), t, strings.NewReader(""), nil, strings.Fields("cluster init --dir c --cluster prod --name d1 --listen 10.0.0.1 --write d1.yaml")...).Exits(console.ExitOK)
	f, err := os.Create("d2.invitation")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var errs bytes.Buffer
	env := &console.Env{Stdin: strings.NewReader(""), Stdout: f, Stderr: &errs, Getenv: func(string) string { return "" }, Now: fixedNow, IsTerminal: func(io.Writer) bool { return false }}
	if err := director(t.Context(), env, strings.Fields("cluster invite d2 --rank 2 --config d1.yaml")); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := decodeInvitation([]byte(read(t, "d2.invitation"))); err != nil {
		t.Error(err)
	}
	env.IsTerminal = func(io.Writer) bool { return true }
	if err := director(t.Context(), env, strings.Fields("cluster invite d3 --rank 3 --config d1.yaml")); err == nil || !strings.Contains(err.Error(), "--out FILE") {
		t.Errorf("%v", err)
	}
}

// An invitation may be cut off, mixed up or made for something else; no word of it tells a secret.
func TestBadInvitations(t *testing.T) {
	good := invite(t, "prod", "d2")
	other := invite(t, "prod", "d2") // by another authority
	text := string(good.encode())
	mixed := good
	mixed.issued.Cert = other.issued.Cert
	strange := good
	strange.issued.CA = other.issued.CA
	named := good
	named.name = "d9"
	for _, tt := range []struct{ name, text, says string }{
		{"empty", "", "does not begin with"},
		{"a key", string(good.issued.Key), "does not begin with"},
		{"cut off", text[:len(text)*2/3], "cut off"},
		{"a later format", strings.Replace(text, "Format: 1", "Format: 2", 1), `its format is "2"`},
		{"no rank", strings.Replace(text, "Rank: 2", "Rank: two", 1), "rank is no number"},
		{"no name", strings.Replace(text, "Name: d2", "Name: ..", 1), "is not a name"},
		{"something else in it", text + string(pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS"})), `"DH PARAMETERS"`},
		{"another's certificate", string(mixed.encode()), "do not belong together"},
		{"another authority", string(strange.encode()), "do not belong together"},
		{"another name", string(named.encode()), "do not belong together"},
		{"another cluster", strings.Replace(text, "Cluster: prod", "Cluster: test", 1), "is that of director d2 of cluster prod"},
	} {
		dir := filepath.Join(t.TempDir(), "j")
		i, err := decodeInvitation([]byte(tt.text))
		if err == nil {
			err = makeWhole(dir, i.save)
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.says)
			continue
		}
		if strings.Contains(err.Error(), strings.Split(string(good.issued.Key), "\n")[1]) {
			t.Errorf("%s: the error tells the key", tt.name)
		}
		if list, _ := os.ReadDir(filepath.Dir(dir)); len(list) > 0 {
			t.Errorf("%s: %q is left behind", tt.name, list[0].Name())
		}
	}
}

func invite(t testing.TB, cluster, name string) invitation {
	t.Helper()
	c, err := ca.New(cluster, fixedNow())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := c.Issue(ca.RoleDirector, name, fixedNow(), ca.Validity)
	if err != nil {
		t.Fatal(err)
	}
	return invitation{name: name, rank: 2, side: "both", join: []string{"10.0.0.1:7463"}, keys: [][]byte{gossip.NewKey()}, issued: issued}
}

func FuzzInvitation(f *testing.F) {
	i := invite(f, "prod", "d2")
	f.Add(i.encode())
	f.Add([]byte("-----BEGIN TUNNEL DIRECTOR INVITATION-----\nFormat: 1\n\n-----END TUNNEL DIRECTOR INVITATION-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := decodeInvitation(data)
		if err != nil {
			return
		}
		again, err := decodeInvitation(i.encode())
		if err != nil || again.name != i.name || again.rank != i.rank || len(again.keys) != len(i.keys) {
			t.Errorf("%v of %q", err, data)
		}
	})
}
