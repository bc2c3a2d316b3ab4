package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
	"tunneldirector/director/config"
)

// defaultClusterDir is where a director keeps what it needs to be one of several.
const defaultClusterDir = "/etc/tunneldirector/cluster"

// A clusterSection is the section cluster of a node's file, as init and join write it.
type clusterSection struct {
	Name      string     `yaml:"name"`
	Rank      int        `yaml:"rank"`
	Role      string     `yaml:"role,omitempty"`
	Listen    string     `yaml:"listen"`
	Heartbeat []string   `yaml:"heartbeat,omitempty,flow"`
	Join      []string   `yaml:"join,omitempty,flow"`
	Keyring   string     `yaml:"keyring"`
	TLS       sectionTLS `yaml:"tls,flow"`
	Authority string     `yaml:"authority,omitempty"`
}

type sectionTLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	CA   string `yaml:"ca"`
}

// sectionFlags are those of init and join alike.
func sectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dir", Value: defaultClusterDir, Usage: "`DIR` to write into; it is made, and must be empty if it is there"},
		&cli.StringFlag{Name: "listen", Usage: "`ADDRESS[:PORT]` of this director that the others dial; gossip and heartbeats are beside it"},
		&cli.StringSliceFlag{Name: "heartbeat", Usage: "`ADDRESS[:PORT]` of this director on a path of its own; may be repeated; default: the one of --listen"},
		&cli.StringFlag{Name: "write", Usage: "node's `FILE` to put the section into; default: print it"},
	}
}

// place fills in where this director listens and where its files are.
func (s *clusterSection) place(t *talk, files ca.Files) error {
	var err error
	if s.Listen, err = withPort("listen", t.String("listen"), config.PortStream); err != nil {
		return err
	}
	for _, a := range t.StringSlice("heartbeat") {
		if a, err = withPort("heartbeat", a, config.PortHeartbeat); err != nil {
			return err
		}
		s.Heartbeat = append(s.Heartbeat, a)
	}
	s.TLS = sectionTLS(files)
	return nil
}

// withPort completes an address of this machine.
func withPort(flag, s string, port uint16) (string, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, port).String(), nil
	}
	if a, err := netip.ParseAddrPort(s); err == nil && a.Port() > 0 {
		return a.String(), nil
	}
	return "", console.Usage("--%s %s: is not an address of this director, like 10.0.0.1 or [2001:db8::1]:%d", flag, s, port)
}

// withTarget completes a gossip address of another director.
func withTarget(s string) string {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, config.PortGossip).String()
	}
	if !strings.Contains(s, ":") {
		return fmt.Sprintf("%s:%d", s, config.PortGossip)
	}
	return s
}

// text is the section as it stands in a node's file. It is judged as that will be.
func (s *clusterSection) text() ([]byte, error) {
	text, err := yaml.MarshalWithOptions(map[string]*clusterSection{"cluster": s}, yaml.Indent(2), yaml.UseSingleQuote(false))
	if err != nil {
		return nil, fmt.Errorf("write the section cluster: %w", err)
	}
	if _, err := config.Parse(append([]byte("name: x\nplane: mem\n"), text...)); err != nil {
		return nil, console.Coded(console.ExitUsage, err)
	}
	return text, nil
}

// A nodeText is a node's file that a section is to be put into.
type nodeText struct {
	path string
	data []byte
	like fs.FileInfo
}

// readNode reads a node's file, of the director name, that has no section cluster yet.
func readNode(path, name string) (*nodeText, error) {
	if path == "" {
		return nil, nil
	}
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the node's file comes first, the section cluster is put into it: %w", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Parse(data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case cfg.Cluster != nil:
		return nil, fmt.Errorf("%s has a section cluster already; nothing was changed", path)
	case cfg.Name != name:
		return nil, fmt.Errorf("%s is the file of director %s, and the certificate would be that of %s; nothing was changed", path, cfg.Name, name)
	}
	return &nodeText{path, data, info}, nil
}

// takes tells what is wrong with a section in the file; nothing if there is none.
func (n *nodeText) takes(section []byte) error {
	if n == nil {
		return nil
	}
	_, err := n.with(section)
	return err
}

// with is the file with a section at its end.
func (n *nodeText) with(section []byte) ([]byte, error) {
	data := append(bytes.TrimRight(bytes.Clone(n.data), "\n"), "\n\n"...)
	data = append(data, section...)
	if cfg, err := config.Parse(data); err != nil || cfg.Cluster == nil {
		return nil, errors.Join(fmt.Errorf("%s cannot take the section cluster at its end: put it in by hand", n.path), err)
	}
	return data, nil
}

// replaceFile puts a file into the place of another one, whole; of whom like is of, if that is said.
func replaceFile(path string, data []byte, mode fs.FileMode, like fs.FileInfo) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if like != nil {
		if of, ok := like.Sys().(*syscall.Stat_t); ok && (int(of.Uid) != os.Geteuid() || int(of.Gid) != os.Getegid()) {
			err = errors.Join(err, f.Chown(int(of.Uid), int(of.Gid)))
		}
	}
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// makeWhole makes a directory with all that fill puts into it, or none at all. One that has something in it stays as it is.
func makeWhole(dir string, fill func(dir string) error) error {
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return fmt.Errorf("%s holds %s and perhaps more already, which stays; name another --dir", dir, list[0].Name())
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*") // 0700
	if err != nil {
		return err
	}
	if err = fill(made); err == nil {
		err = os.Rename(made, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(made))
	}
	return nil
}

// A sectionAnswer is what init and join print with --json.
type sectionAnswer struct {
	Cluster string   `json:"cluster"`
	Name    string   `json:"name"`
	Dir     string   `json:"dir"`
	Written string   `json:"written,omitempty"` // the node's file
	Section string   `json:"section"`
	Next    []string `json:"next"`
}

// settle puts the section where it belongs and says what is to be done next.
func (t *talk) settle(node *nodeText, a sectionAnswer) error {
	if node != nil {
		data, err := node.with([]byte(a.Section))
		if err == nil {
			err = replaceFile(node.path, data, node.like.Mode().Perm(), node.like)
		}
		if err != nil {
			return fmt.Errorf("%s is made, but the section could not be put into the node's file; put it there by hand:\n%s\n%w", a.Dir, a.Section, err)
		}
		a.Written = node.path
	} else {
		a.Next = append([]string{"put the section printed above into the node's file, /etc/tunneldirector/director.yaml"}, a.Next...)
	}
	if t.JSON {
		return t.JSONLine(a)
	}
	if node == nil {
		if _, err := t.Stdout.Write([]byte(a.Section)); err != nil {
			return err
		}
	} else {
		t.note("the section cluster is in %s", node.path)
	}
	t.note("director %s of cluster %s: its files are in %s. Next:", a.Name, a.Cluster, a.Dir)
	for i, n := range a.Next {
		t.note("  %d. %s", i+1, n)
	}
	return nil
}
