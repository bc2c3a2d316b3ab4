package main

import (
	"path/filepath"

	"github.com/urfave/cli/v2"

	"tunneldirector/cluster/ca"
	"tunneldirector/cluster/gossip"
	"tunneldirector/cmd/console"
	"tunneldirector/director/config"
)

// What is in a director's directory of the cluster, beside its certificate.
const (
	keyringFile  = "keyring"
	authorityDir = "authority"
)

func clusterInitCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "make a cluster, and this director its first member",
		Description: console.Describe(`
Makes what a cluster needs: an authority, this director's certificate, and the keyring that gossip and
heartbeats are sealed with; and prints the section cluster of the node's file, or puts it there with
--write. The others are invited here afterwards. Certificates renew themselves with this director, which
keeps the authority's key: guard its directory. Nothing that is there is replaced. Asks no director.`,
			"director cluster init --cluster prod --name d1 --listen 10.0.0.1 --write /etc/tunneldirector/director.yaml",
			"director cluster init --cluster prod --name d1 --listen 10.0.0.1 --heartbeat 10.0.0.1 --heartbeat 172.16.0.1"),
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "cluster", Usage: "the cluster's `NAME`: letters, digits, and single . and - between them"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of this director, as in its node's file"},
			&cli.IntFlag{Name: "rank", Value: 1, Usage: "`RANK`, 1 to 16, another one for each director: of the live ones the lowest assigns"},
			&cli.StringFlag{Name: "side", Usage: "`SIDE` where it stands: both, tunnel or subnet; default both"},
			&cli.StringSliceFlag{Name: "join", Usage: "`HOST[:PORT]` of another director's gossip, now or later; may be repeated"},
		}, sectionFlags()...),
		Action: asksNobody(env, console.Count{}, clusterInit),
	}
}

func clusterInit(t *talk) error {
	if err := t.needs("cluster", "name", "listen"); err != nil {
		return err
	}
	id := ca.Identity{Cluster: t.String("cluster"), Role: ca.RoleDirector, Name: t.String("name")}
	if err := id.Validate(); err != nil {
		return console.Coded(console.ExitUsage, err)
	}
	dir, err := filepath.Abs(t.String("dir"))
	if err != nil {
		return err
	}
	s := clusterSection{Name: id.Cluster, Rank: t.Int("rank"), Role: t.String("side"), Keyring: filepath.Join(dir, keyringFile), Authority: filepath.Join(dir, authorityDir)}
	for _, j := range t.StringSlice("join") {
		s.Join = append(s.Join, withTarget(j))
	}
	if err := s.place(t, filesIn(dir, id.Name)); err != nil {
		return err
	}
	text, err := s.text()
	if err != nil {
		return err
	}
	node, err := readNode(t.String("write"), id.Name)
	if err != nil {
		return err
	}
	if err := node.takes(text); err != nil {
		return err
	}
	if err := makeWhole(dir, func(made string) error { return t.makeCluster(made, id) }); err != nil {
		return err
	}
	next := []string{
		"director check, then restart this director: systemctl restart director",
		"for each other director: director cluster invite NAME --rank RANK --out NAME.invitation, bring the file there, and director cluster join NAME.invitation",
	}
	if len(s.Join) == 0 {
		next = append(next, "no --join is needed: the others find this director by their invitations, and it finds them later by what it remembers of them")
	}
	return t.settle(node, sectionAnswer{Cluster: id.Cluster, Name: id.Name, Dir: dir, Section: string(text), Next: next})
}

// filesIn is where a director's certificate is in its directory.
func filesIn(dir, name string) ca.Files {
	base := filepath.Join(dir, string(ca.RoleDirector)+"-"+name)
	return ca.Files{Cert: base + ".crt", Key: base + ".key", CA: filepath.Join(dir, "ca.crt")}
}

// makeCluster makes the files of the first director.
func (t *talk) makeCluster(dir string, id ca.Identity) error {
	authority, err := ca.New(id.Cluster, t.Now())
	if err != nil {
		return err
	}
	if _, err := authority.Save(filepath.Join(dir, authorityDir)); err != nil {
		return err
	}
	issued, err := authority.Issue(id.Role, id.Name, t.Now(), ca.Validity)
	if err != nil {
		return err
	}
	if _, err := issued.Save(dir); err != nil {
		return err
	}
	_, err = gossip.CreateKeyring(filepath.Join(dir, keyringFile))
	return err
}

// memberOf reads the node's file of a director that is in a cluster, and has its authority.
func memberOf(path string) (config.Config, error) {
	cfg, err := config.Read(path)
	switch {
	case err != nil:
		return cfg, err
	case cfg.Cluster == nil:
		return cfg, console.Coded(console.ExitFailed, errNoSection(path))
	case cfg.Cluster.Authority == "":
		return cfg, console.Coded(console.ExitFailed, errNoAuthority(path))
	}
	return cfg, nil
}

type errNoSection string

func (e errNoSection) Error() string {
	return string(e) + " has no section cluster: put in what `director cluster init` printed, or begin with that"
}

type errNoAuthority string

func (e errNoAuthority) Error() string {
	return string(e) + " names no cluster.authority: invite on the director that has it, where `director cluster init` was"
}
