package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
)

// What a director proves by who it is has to be its own; that it expired is told, and no reason not to run.
func TestCheckOfAgentsTLS(t *testing.T) {
	prod, err := ca.New("prod", time.Now().Add(-300*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	save := func(a ca.CA, role ca.Role, name string, start time.Time, days int) ca.Files {
		t.Helper()
		issued, err := a.Issue(role, name, start, time.Duration(days)*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		files, err := issued.Save(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	again, err := ca.New("prod", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good := save(prod, ca.RoleDirector, "d1", now, 365)
	other := save(again, ca.RoleDirector, "d1", now, 365)
	for _, tt := range []struct {
		name  string
		files ca.Files
		code  int
		out   string
		errs  string
	}{
		{"good", good, console.ExitOK, "a director can run here", ""},
		{"not there", ca.Files{Cert: good.Cert + "x", Key: good.Key, CA: good.CA}, console.ExitFailed, "", "agents.tls: read the certificate: "},
		{"another's key", ca.Files{Cert: good.Cert, Key: other.Key, CA: good.CA}, console.ExitFailed, "", "does not match"},
		{"another authority", ca.Files{Cert: good.Cert, Key: good.Key, CA: other.CA}, console.ExitFailed, "", "the authority did not issue the certificate"},
		{"another director's", save(prod, ca.RoleDirector, "d2", now, 365), console.ExitFailed, "", "is that of director d2 of cluster prod; wanted is that of director d1"},
		{"an agent's", save(prod, ca.RoleAgent, "d1", now, 365), console.ExitFailed, "", "is that of agent d1"},
		{"expired", save(prod, ca.RoleDirector, "d1", now.Add(-90*24*time.Hour), 89), console.ExitOK, "finding: agents.tls: the certificate of director d1 of cluster prod expired on ", ""},
		{"to be renewed", save(prod, ca.RoleDirector, "d1", now.Add(-80*24*time.Hour), 90), console.ExitOK, "finding: agents.tls: the certificate of director d1 of cluster prod expires on ", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := fmt.Sprintf("name: d1\nplane: mem\ndata_dir: %s\nagents:\n  listen: [127.0.0.1:7460]\n  tls: {cert: %s, key: %s, ca: %s}\n",
				filepath.Join(t.TempDir(), "data"), tt.files.Cert, tt.files.Key, tt.files.CA)
			r := runIn(t.Context(), t, strings.NewReader(""), nil, "check", "--config", write(t, "director.yaml", node)).Exits(tt.code, tt.out).Tells(tt.errs)
			if strings.Contains(r.Out, "finding:") != strings.Contains(tt.out, "finding:") {
				t.Errorf("found something else:\n%s", r.Out)
			}
		})
	}
}
