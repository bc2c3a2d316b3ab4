package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"tunneldirector/cmd/console"
)

// Each step is one command line against the director that the steps before made.
func TestCommands(t *testing.T) {
	w := furnished(t)
	steps := []struct {
		args  string
		code  int
		out   []string
		errs  []string
		stdin string
	}{
		{args: "service list", out: []string{"ipsec", "192.0.2.10", "esp udp/500 udp/4500", "least-load"}},
		{args: "tenant list", out: []string{"default", "100.64.0.0/10"}},
		{args: "rs ls", out: []string{"rs1", "alive", "node-a @ z1", "0/5,000"}},
		{args: "realserver list --service wg --json", out: []string{`{"real_servers":[]}`}},
		{args: "tunnel list", errs: []string{"no tunnels"}},
		{args: "tunnel add site-1 --service ipsec --endpoint 203.0.113.1 --subnet 100.64.1.0/28,100.64.2.0/28 --bandwidth 2M --label region=north",
			out: []string{"tunnel site-1 created, at real server rs"}},
		{args: "tunnel add site-1 --service ipsec --endpoint 203.0.113.1 --subnet 100.64.1.0/28 --subnet 100.64.2.0/28 --bandwidth 2M --label region=north",
			out: []string{"tunnel site-1 unchanged"}},
		{args: "tunnel add site-1 --service ipsec --endpoint 203.0.113.1", out: []string{"tunnel site-1 changed"}},
		{args: "tunnel add site-2 --service ipsec --endpoint 203.0.113.2:4500 --subnet 100.64.3.0/24 --group branch", out: []string{"created", "note: "}},
		{args: "tunnel add site-3 --service ipsec --endpoint 203.0.113.1", code: console.ExitRefused,
			errs: []string{"Conflict", "field    endpoints[0]", "value    203.0.113.1", "problem  ", "held by tunnel site-1"}},
		{args: "tunnel add site-3 --service ipsec --subnet 100.64.9.9/24", code: console.ExitRefused, errs: []string{"host bits", "remedy   write 100.64.9.0/24"}},
		{args: "tunnel add site-3 --service ipsec --subnet 100.64.9.9/24 --json", code: console.ExitRefused, errs: []string{`{"error":`, `"exit_code":3`, `"remedy":"write 100.64.9.0/24"`}},
		{args: "tunnel add site-3", code: console.ExitUsage, errs: []string{"lacks --service NAME"}},
		{args: "tunnel add site-3 --service ipsec --bandwidth lots", code: console.ExitUsage, errs: []string{"--bandwidth", "not a rate"}},
		{args: "tunnel add site-3 --service ipsec --label x", code: console.ExitUsage, errs: []string{"not KEY=VALUE"}},
		{args: "tunnel get site-2", out: []string{"endpoints    203.0.113.2:4500", "group        branch", "real server  rs"}},
		{args: "tunnel get site-2 --json", out: []string{`"id":"site-2"`, `"placement":{"real_server":"rs`}},
		{args: "tunnel get nobody", code: console.ExitRefused, errs: []string{"Not Found", `no tunnel "nobody"`}},
		{args: "tunnel list --limit 1", out: []string{"site-1"}, errs: []string{"there are more", "2 tunnels"}},
		{args: "tunnel list --limit 1 --group branch --json", out: []string{`{"id":"site-2"`}},
		{args: "tunnel list --limit -1", code: console.ExitUsage, errs: []string{"is negative"}},
		{args: "tunnel list --placed maybe", code: console.ExitRefused, errs: []string{"placed"}},
		{args: "repin site-1 --to rs3", out: []string{"tunnel site-1"}},
		{args: "repin site-1 --to rs3", out: []string{"tunnel site-1 stays: at real server rs3"}},
		{args: "repin site-2 --to rs1", out: []string{"group branch"}, errs: []string{"moves as a whole"}},
		{args: "repin @branch --to rs2 --json", out: []string{`"group":"@branch"`, `"changed":true`, `"real_server":"rs2"`}},
		{args: "repin branch", code: console.ExitRefused, errs: []string{"a group is written @branch"}},
		{args: "repin site-1 --to rs9", code: console.ExitRefused, errs: []string{"rs9"}},
		{args: "trace --from 203.0.113.1 --to 192.0.2.10 --proto esp", out: []string{" 1. esp packet from 203.0.113.1 to 192.0.2.10", "forwarded to real server rs3", "tunnel      site-1", "if it dies"}},
		{args: "trace --from 203.0.113.2:4500 --to 192.0.2.10:4500 --proto udp --json", out: []string{`"action":"forward"`, `"real_server":"rs2"`}},
		{args: "trace --from 203.0.113.99 --to 192.0.2.10 --proto esp", out: []string{"dropped: "}},
		{args: "trace --from 203.0.113.1:1 --from-port 2 --to 192.0.2.10", code: console.ExitUsage, errs: []string{"say one port"}},
		{args: "trace --to 192.0.2.10", code: console.ExitUsage, errs: []string{"lacks --from"}},
		{args: "trace --from here --to 192.0.2.10", code: console.ExitRefused, errs: []string{"field    src", "value    here"}},
		{args: "realserver drain rs1 rs9", code: console.ExitPartly, out: []string{"real server rs1 drained"}, errs: []string{"rs9"}},
		{args: "realserver drain rs1", out: []string{"is so already"}},
		{args: "realserver undrain rs1", out: []string{"takes new tunnels again"}},
		{args: "realserver weight rs1 1500", out: []string{"has weight 1,500 now"}},
		{args: "realserver weight rs1 -5", code: console.ExitUsage, errs: []string{`weight "-5" is not a whole number from 0 to 65535`}},
		{args: "repin nobody --to rs1", code: console.ExitRefused, errs: []string{"director: Not Found: no tunnel \"nobody\"\n  a group is written @nobody\n"}},
		{args: "realserver weight rs1 many", code: console.ExitUsage, errs: []string{"not a whole number"}},
		{args: "realserver weight rs1", code: console.ExitUsage, errs: []string{"lacks NAME WEIGHT"}},
		{args: "realserver add rs4 --address 198.51.100.14 --service ipsec --vlan default=101", out: []string{"real server rs4 added"}},
		{args: "realserver add rs4 --address 198.51.100.14 --service ipsec", out: []string{"real server rs4 replaced"}},
		{args: "realserver add rs4 --vlan x", code: console.ExitUsage, errs: []string{"is not TENANT=TAG"}},
		{args: "realserver add rs4 --address nowhere --service wg", code: console.ExitRefused, errs: []string{"addresses[0]"}},
		{args: "realserver rm rs4", out: []string{"real server rs4 removed"}},
		{args: "realserver rm rs3", code: console.ExitRefused, errs: []string{"rs3"}},
		{args: "freeze", out: []string{"frozen: "}},
		{args: "status", out: []string{"director", "d1, version 1.2.3", "frozen", "YES", "N+1", "tunnels", "REAL SERVER"}},
		{args: "freeze --off --json", out: []string{`{"frozen":false}`}},
		{args: "unfreeze", out: []string{"not frozen"}},
		{args: "status --check --json", out: []string{`"ready":true`}},
		{args: "audit", code: console.ExitFailed, errs: []string{"Not Implemented", "the kernel's tables cannot be compared"}},
		{args: "realserver list --pairs", code: console.ExitFailed, errs: []string{"no address stands for a pair of real servers"}},
		{args: "rebalance --dry-run --json", out: []string{`"summary":{`, `"dry_run":true`}},
		{args: "rebalance --rate 0", code: console.ExitUsage, errs: []string{"--rate 0"}},
		{args: "rebalance --service wg", code: console.ExitRefused, errs: []string{`no service "wg"`}},
		{args: "service rm ipsec", code: console.ExitRefused, errs: []string{"ipsec"}},
		{args: "tunnel rm site-1 site-2 site-9", out: []string{"tunnel site-1 removed", "tunnel site-9 did not exist"}},
		{args: "tenant rm default", out: []string{"tenant default removed"}},
		{args: "version --remote", out: []string{"running  1.2.3"}},
		{args: "watch --since elsewhere:1", code: console.ExitRefused, errs: []string{"Gone"}},
		{args: "status --timeout 1ns", code: console.ExitUnreachable, errs: []string{"no answer within 1ns (--timeout)"}},
		{args: "help tunnel add", out: []string{"director tunnel add - ", "Examples:"}},
		{args: "tunnel", code: console.ExitUsage, errs: []string{"needs a command: list, get, add, rm, import, export"}},
		{args: "tunnel lst", code: console.ExitUsage, errs: []string{`Did you mean "list"?`}},
		{args: "tunnel list there", code: console.ExitUsage, errs: []string{"takes no arguments"}},
		{args: "status --josn", code: console.ExitUsage, errs: []string{"there is no flag --josn"}},
	}
	for _, s := range steps {
		w.feed(s.stdin, strings.Fields(s.args)...).Exits(s.code, s.out...).Tells(s.errs...)
	}
}

func TestStatusCheckTellsAlarms(t *testing.T) {
	w := furnished(t)
	w.verdict("rs2", false)
	w.run("status", "--check").Exits(console.ExitNotWell, "ALARM  real server rs2 is dead").Tells("1 alarm")
	w.run("status").Exits(console.ExitOK)
	w.run("realserver", "list").Exits(console.ExitOK, "rs2 is dead: said so")
}

func TestNoDirector(t *testing.T) {
	dir := t.TempDir()
	for _, args := range []string{"status", "tunnel list", "tunnel export", "watch", "rebalance", "audit", "tunnel import /dev/null", "realserver drain x"} {
		r := runIn(t.Context(), t, strings.NewReader(""), nil, append([]string{"--socket", dir + "/none"}, strings.Fields(args)...)...)
		r.Exits(console.ExitUnreachable).Tells("No director listens on the socket "+dir+"/none", "director run --config")
	}
	runIn(t.Context(), t, strings.NewReader(""), nil, "status", "--server", "http://127.0.0.1:1").Exits(console.ExitUnreachable).Tells("api.listen")
	runIn(t.Context(), t, strings.NewReader(""), map[string]string{"TUNNELDIRECTOR_SOCKET": dir + "/env"}, "status").Exits(console.ExitUnreachable).Tells(dir + "/env")
}

func TestCredentials(t *testing.T) {
	tests := []struct {
		name, args, tells string
	}{
		{"both ways", "status --server https://d1:8443 --socket /x", "say one of them"},
		{"a token in clear", "status --server http://d1.example:8080 --token-file /x", "use https"},
		{"no token file", "status --token-file /nowhere/token", "/nowhere/token"},
		{"no CA file", "status --ca /nowhere/ca", "/nowhere/ca"},
		{"bad URL", "status --server d1:8443", "is not like https://"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			runIn(t.Context(), t, strings.NewReader(""), nil, strings.Fields(tt.args)...).Exits(console.ExitUsage).Tells(tt.tells)
		})
	}
}

// The help of every command is written, with an example that names it.
func TestHelpIsComplete(t *testing.T) {
	env := &console.Env{Getenv: func(string) string { return "" }}
	var walk func(path string, list []*cli.Command)
	walk = func(path string, list []*cli.Command) {
		for _, c := range list {
			name := path + " " + c.Name
			_, examples, _ := strings.Cut(c.Description, "\n\nExamples:\n")
			if c.Usage == "" || !strings.Contains(examples, name) && !c.Hidden {
				t.Errorf("%s lacks usage, description or example", name)
			}
			for _, f := range c.Flags {
				if d, ok := f.(cli.DocGenerationFlag); ok && d.GetUsage() == "" {
					t.Errorf("%s --%s lacks usage", name, f.Names()[0])
				}
			}
			for line := range strings.Lines(c.Description) {
				if len(line) > 125 {
					t.Errorf("%s: the help's line is too long: %s", name, line)
				}
			}
			walk(name, c.Subcommands)
		}
	}
	walk("director", newApp(env).Commands)
}
