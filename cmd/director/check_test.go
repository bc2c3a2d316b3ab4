package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
	"tunneldirector/director/config"
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

// A program reads the faults of a file, of this machine, and that there are none, as it reads all else.
func TestCheckInJSON(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		file string
		code int
		want checkAnswer
	}{
		{"a file without faults", fmt.Sprintf("name: d1\nplane: mem\ndata_dir: %s\n", dir), console.ExitOK,
			checkAnswer{Director: "d1", Plane: "mem", DataDir: dir, Faults: config.Faults{}, Runs: true}},
		{"a file with two faults", "name: d1\nplane: mem\nplain: mem\nlog:\n  level: loud\n", console.ExitFailed,
			checkAnswer{Faults: config.Faults{{Path: "plain", Line: 3}, {Path: "log.level", Line: 5}}}},
		{"a fault of the machine", fmt.Sprintf("name: d1\nplane: mem\ndata_dir: %s\napi:\n  tokens_file: %s/none\n", dir, dir), console.ExitFailed,
			checkAnswer{Director: "d1", Plane: "mem", DataDir: dir, Faults: config.Faults{{Path: "api.tokens_file"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, "director.yaml", tt.file)
			r := runIn(t.Context(), t, strings.NewReader(""), nil, "check", "--json", "--config", path).Exits(tt.code)
			var got checkAnswer
			if err := json.Unmarshal([]byte(r.Out), &got); err != nil {
				t.Fatalf("%v in:\n%s", err, r.Out)
			}
			for i := range got.Faults {
				if f := &got.Faults[i]; f.Problem == "" {
					t.Errorf("fault %d says nothing: %s", i, r.Out)
				} else {
					f.Problem, f.Column = "", 0
				}
			}
			tt.want.File, got.Warnings, got.Findings = path, nil, nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
		})
	}
	runIn(t.Context(), t, strings.NewReader(""), nil, "check", "--json", "--config", dir+"/none.yaml").Exits(console.ExitFailed, `"faults":[{"problem":"read configuration: open `+dir)
}
