package ecmp

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tunneldirector/director/config"
	"tunneldirector/integration/software"
)

func TestDirectorFile(t *testing.T) {
	c, err := config.Read(filepath.Join("..", "..", "examples", "ecmp", "director.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Silent() || len(c.Cluster.Heartbeat) != 2 {
		t.Errorf("cluster %+v; want all addresses and two paths", c.Cluster)
	}
	if w := c.Warnings(); w != nil {
		t.Errorf("warnings %q", w)
	}
}

// FRR wants to be installed before it runs, but tells without that whether it understands a file.
func TestFRRFiles(t *testing.T) {
	paths, env, err := software.Unpack(t.Context(), filepath.Join("..", "..", "build", "vm"), slog.New(slog.NewTextHandler(t.Output(), nil)), []string{"frr"}, "usr/bin/vtysh")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no FRR:", err)
	}
	own, err := filepath.Glob(filepath.Join(filepath.Dir(paths[0]), "..", "lib", "*", "frr"))
	must(t, err)
	env = append(env, env[len(env)-1]+":"+strings.Join(own, ":")) // the last of a name holds
	check := func(file string) (string, error) {
		cmd := exec.CommandContext(t.Context(), paths[0], "-C", "-f", file)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, name := range []string{"frr-director.conf", "frr-router.conf"} {
		text := string(example(t, name))
		file := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if out, err := check(file); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		must(t, os.WriteFile(file, []byte(strings.Replace(text, "activate", "aktivate", 1)), 0o600))
		if out, err := check(file); err == nil {
			t.Errorf("%s with a word misspelt is taken\n%s", name, out)
		}
	}
}
