package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
)

// Each step is a command line in a directory that the steps before filled.
func TestCA(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, s := range []struct {
		args string
		code int
		out  []string
		errs []string
	}{
		{args: "ca init --name prod --dir ca", out: []string{"authority ca of cluster prod", "ca/ca.crt", "ca/ca.key"}},
		{args: "ca init --name prod --dir ca", code: console.ExitFailed, errs: []string{"create ca/ca.key: file exists"}},
		{args: "ca init --name prod", code: console.ExitUsage, errs: []string{"director ca init lacks --dir"}},
		{args: "ca init --dir ca2", code: console.ExitUsage, errs: []string{"lacks --name"}},
		{args: "ca init --name a_b --dir ca2", code: console.ExitUsage, errs: []string{`"a_b" is not the name of a cluster`}},
		{args: "ca init prod --name prod --dir ca2", code: console.ExitUsage, errs: []string{"takes no arguments"}},
		{args: "ca issue --role agent --name node-a --dir ca --out out", out: []string{"agent node-a of cluster prod", "out/agent-node-a.crt", "out/agent-node-a.key", "out/ca.crt"}},
		{args: "ca issue --role agent --name node-a --dir ca --out out --days 30 --json", out: []string{`"cluster":"prod","role":"agent","name":"node-a","expires":"`, `"key":"out/agent-node-a.key"`}},
		{args: "ca issue --role director --name d1 --dir ca --out out", out: []string{"director d1 of cluster prod"}},
		{args: "ca issue --role agent --name a/b --dir ca --out out2", code: console.ExitUsage, errs: []string{"--name: ", "is not a name"}},
		{args: "ca issue --role drill --name a --dir ca --out out2", code: console.ExitUsage, errs: []string{"--role drill: is not director or agent"}},
		{args: "ca issue --role authority --name a --dir ca --out out2", code: console.ExitUsage, errs: []string{"--role authority"}},
		{args: "ca issue --role agent --name a --dir ca", code: console.ExitUsage, errs: []string{"lacks --out"}},
		{args: "ca issue --role agent --name a --dir ca --out out2 --days 0", code: console.ExitUsage, errs: []string{"--days 0"}},
		{args: "ca issue --role agent --name a --dir ca --out out2 --days 100000", code: console.ExitUsage, errs: []string{"--days 100000"}},
		{args: "ca issue --role agent --name a --dir nowhere --out out2", code: console.ExitFailed, errs: []string{"nowhere/ca.crt: no such file"}},
		{args: "ca issue --role agent --name a --dir out --out out2", code: console.ExitFailed, errs: []string{"out/ca.key: no such file"}},
		{args: "ca show out/agent-node-a.crt", out: []string{"is      agent node-a of cluster prod", "state   valid", "(in 29d 23h)", "sha256  "}},
		{args: "ca show ca/ca.crt --json", out: []string{`{"certificates":[{"cluster":"prod","role":"authority","name":"ca","state":"valid","not_before":"`, `"sha256":"`}},
		{args: "ca show ca/ca.crt out/agent-node-a.crt", out: []string{"is      authority ca of", "file    ca/ca.crt\n\nis      agent node-a of", "file    out/agent-node-a.crt\n"}},
		{args: "ca show ca/ca.crt nothing", code: console.ExitFailed, errs: []string{"no such file"}},
		{args: "ca show out/agent-node-a.key", code: console.ExitFailed, errs: []string{`out/agent-node-a.key: holds a "PRIVATE KEY" where certificates are wanted`}},
		{args: "ca show", code: console.ExitUsage, errs: []string{"lacks FILE"}},
		{args: "ca show nothing", code: console.ExitFailed, errs: []string{"no such file"}},
		{args: "ca show out", code: console.ExitFailed, errs: []string{"is not a file"}},
		{args: "ca", code: console.ExitUsage, errs: []string{"needs a command: init, issue, show"}},
		{args: "__complete -- ca issue --role a", out: []string{"agent\t"}},
	} {
		// A file of the environment that is not there is no business of these commands.
		runIn(t.Context(), t, strings.NewReader(""), map[string]string{"TUNNELDIRECTOR_CA": "/nowhere", "TUNNELDIRECTOR_SERVER": "https://d1.example"},
			strings.Fields(s.args)...).Exits(s.code, s.out...).Tells(s.errs...)
	}
	if _, err := os.Stat("out2"); err == nil {
		t.Error("a refused command made its directory")
	}
	if _, err := ca.Open(ca.Files{Cert: "out/agent-node-a.crt", Key: "out/agent-node-a.key", CA: "out/ca.crt"}, ca.RoleAgent, "node-a", nil); err != nil {
		t.Errorf("what was issued is of no use: %v", err)
	}
}

func TestShowCertificates(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	list := []foundCertificate{
		{ca.Certificate{Identity: ca.Identity{Cluster: "prod", Role: ca.RoleAgent, Name: "node-a"}, NotBefore: now.Add(-time.Hour), Expires: now.Add(26 * time.Hour), SHA256: "12ab"}, "a.crt"},
		{ca.Certificate{Identity: ca.Identity{Cluster: "prod", Role: ca.RoleDirector, Name: "d1"}, NotBefore: now.Add(-time.Hour), Expires: now.Add(-time.Minute), SHA256: "34cd"}, "d.crt"},
	}
	var b bytes.Buffer
	s := &talk{Env: &console.Env{Stdout: &b, Now: func() time.Time { return now }}}
	if err := s.showCertificates(list); err != nil {
		t.Fatal(err)
	}
	const want = `is      agent node-a of cluster prod
state   valid
from    2026-01-02 02:04:05Z
until   2026-01-03 05:04:05Z (in 1d 2h)
sha256  12ab
file    a.crt

is      director d1 of cluster prod
state   expired
from    2026-01-02 02:04:05Z
until   2026-01-02 03:03:05Z (1m ago)
sha256  34cd
file    d.crt
`
	if got := b.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	b.Reset()
	s.JSON = true
	if err := s.showCertificates(list); err != nil {
		t.Fatal(err)
	}
	var answer struct{ Certificates []certificateAnswer }
	if err := json.Unmarshal(b.Bytes(), &answer); err != nil || len(answer.Certificates) != 2 || answer.Certificates[1].State != "expired" {
		t.Errorf("%v: %s", err, &b)
	}
}
