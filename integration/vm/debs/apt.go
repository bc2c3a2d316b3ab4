package debs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// freshFor is how long the lists of packages are taken to be what the mirrors have. Mirrors drop old versions.
const freshFor = time.Hour

// uri is a line of apt-get --print-uris: 'http://.../x.deb' name_version_architecture.deb size hash.
var uri = regexp.MustCompile(`(?m)^'[^']+' ([^/\s]+_[^/\s]+_[^/\s]+)\.deb \d+ `)

// resolve asks apt what it would install for each wanted package on a machine that has nothing.
func (c *Cache) resolve(ctx context.Context, wanted []string) ([]Package, error) {
	var packages []Package
	at := map[string]int{} // where a package is in packages
	for _, name := range wanted {
		out, err := c.command(ctx, c.dir, "apt-get", "install", "--print-uris", "-y", "-qq", name)
		if err != nil {
			return nil, fmt.Errorf("resolve package %s: %w", name, err)
		}
		for _, m := range uri.FindAllSubmatch(out, -1) {
			id := string(m[1])
			i, known := at[id]
			if !known {
				i = len(packages)
				at[id] = i
				packages = append(packages, Package{Name: nameOf(id), ID: id})
			}
			packages[i].Wanted = packages[i].Wanted || nameOf(id) == name
		}
	}
	return packages, nil
}

// download fetches packages, which apt checks against its signed lists, and returns their files.
func (c *Cache) download(ctx context.Context, ids []string) ([]string, error) {
	dir := filepath.Join(c.dir, "apt", "fetched")
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("download packages: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("download packages: %w", err)
	}
	args := []string{"download", "-qq"}
	for _, id := range ids {
		part := strings.Split(strings.ReplaceAll(id, "%3a", ":"), "_")
		args = append(args, part[0]+"="+part[1])
	}
	c.logger.Info("download packages", "count", len(ids))
	if err := c.patiently(ctx, dir, "apt-get", args...); err != nil {
		return nil, fmt.Errorf("download %d packages: %w", len(ids), err)
	}
	files := make([]string, len(ids))
	for i, id := range ids {
		files[i] = filepath.Join(dir, id+".deb")
		if _, err := os.Stat(files[i]); err != nil {
			return nil, fmt.Errorf("download package %s: %w", id, err)
		}
	}
	return files, nil
}

const tries = 5

// patiently runs a command that needs the network, and again if that fails: names and mirrors are out of reach now and then.
func (c *Cache) patiently(ctx context.Context, dir, name string, args ...string) (err error) {
	for try, pause := 1, c.pause; ; try, pause = try+1, 2*pause {
		if _, err = c.command(ctx, dir, name, args...); err == nil || try == tries {
			return err
		}
		c.logger.Warn("tried again in a moment", "command", name+" "+args[0], "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// update brings apt's lists to where the mirrors are, unless that was done a moment ago.
func (c *Cache) update(ctx context.Context) error {
	done := filepath.Join(c.dir, "apt", "updated")
	if info, err := os.Stat(done); err == nil && time.Since(info.ModTime()) < freshFor {
		return nil
	}
	if err := c.configure(ctx); err != nil {
		return fmt.Errorf("configure apt: %w", err)
	}
	c.logger.Info("read the lists of packages")
	// Without the mode apt takes a mirror that does not answer for a warning, and has no lists then.
	if err := c.patiently(ctx, c.dir, "apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any"); err != nil {
		return fmt.Errorf("read the lists of packages: %w", err)
	}
	return os.WriteFile(done, nil, 0o644)
}

// configure writes a configuration that has the host's way to its mirrors (sources, keys, proxies), but none of its hooks
// and none of its state.
func (c *Cache) configure(ctx context.Context) error {
	dir := filepath.Join(c.dir, "apt")
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "no.parts"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return err
	}
	host, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return failed("apt-config", err, nil)
	}
	var conf bytes.Buffer
	for line := range strings.Lines(string(host)) {
		if strings.HasPrefix(line, "Acquire::") && !strings.HasPrefix(line, "Acquire::IndexTargets") {
			conf.WriteString(line)
		}
	}
	fmt.Fprintf(&conf, "Dir::State %q;\nDir::State::status %q;\nDir::Cache %q;\nDir::Etc::parts %q;\nDir::Etc::main %q;\n",
		filepath.Join(dir, "state"), filepath.Join(dir, "status"), filepath.Join(dir, "cache"), filepath.Join(dir, "no.parts"), filepath.Join(dir, "no.conf"))
	// Root's apt would fetch as a user that may not be able to reach this directory.
	fmt.Fprint(&conf, "Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\nAPT::Install-Recommends \"false\";\n")
	return os.WriteFile(filepath.Join(dir, "conf"), conf.Bytes(), 0o644)
}

// command runs a program in dir under our configuration of apt and returns what it printed.
func (c *Cache) command(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(c.dir, "apt", "conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, failed(name, err, stderr.Bytes())
	}
	return out, nil
}

// failed explains why a program of the host did not do its work.
func failed(name string, err error, stderr []byte) error {
	if text := bytes.TrimSpace(stderr); len(text) > 0 {
		return fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func nameOf(id string) string {
	name, _, _ := strings.Cut(id, "_")
	return name
}
