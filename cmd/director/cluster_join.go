package main

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/cluster/ca"
	"tunneldirector/cluster/gossip"
	"tunneldirector/cmd/console"
)

func clusterJoinCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "make this director a member, by an invitation", ArgsUsage: "FILE",
		Description: console.Describe(`
Takes the invitation that director cluster invite made for this director ("-": standard input), writes
its certificate, key and keyring, and prints the section cluster of the node's file, or puts it there
with --write. Nothing that is there is replaced. Asks no director: it takes part when it is restarted.`,
			"director cluster join d2.invitation --listen 10.0.0.2 --write /etc/tunneldirector/director.yaml",
			"director cluster join d2.invitation --listen 10.0.0.2 --heartbeat 10.0.0.2 --heartbeat 172.16.0.2"),
		Flags:  sectionFlags(),
		Action: asksNobody(env, console.Count{Min: 1, Max: 1}, clusterJoin),
	}
}

func clusterJoin(t *talk) error {
	if err := t.needs("listen"); err != nil {
		return err
	}
	name := t.Args().First()
	data, err := readRecords(t.Context.Context, t.Env, name)
	if err != nil {
		return err
	}
	i, err := decodeInvitation(data)
	if err != nil {
		return fmt.Errorf("%s is not an invitation: %w", name, err)
	}
	dir, err := filepath.Abs(t.String("dir"))
	if err != nil {
		return err
	}
	s := clusterSection{Name: i.issued.Identity.Cluster, Rank: i.rank, Role: i.side, Join: i.join, Keyring: filepath.Join(dir, keyringFile)}
	if err := s.place(t, filesIn(dir, i.name)); err != nil {
		return err
	}
	text, err := s.text()
	if err != nil {
		return err
	}
	node, err := readNode(t.String("write"), i.name)
	if err != nil {
		return err
	}
	if err := node.takes(text); err != nil {
		return err
	}
	if err := makeWhole(dir, i.save); err != nil {
		return err
	}
	next := []string{
		"delete the invitation: it is secret, and of no more use",
		"director check, then restart this director: systemctl restart director",
		"director cluster members, here or on another director: it is alive, catches up, and is ready",
	}
	return t.settle(node, sectionAnswer{Cluster: s.Name, Name: i.name, Dir: dir, Section: string(text), Next: next})
}

// save writes the files of a director that joins, if they belong together.
func (i invitation) save(dir string) error {
	files, err := i.issued.Save(dir)
	if err != nil {
		return err
	}
	own, err := ca.Open(files, ca.RoleDirector, i.name, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("the invitation's parts do not belong together: %w", err)
	}
	if own.Identity() != i.issued.Identity {
		return fmt.Errorf("the invitation's certificate is that of %s, not of %s", own.Identity(), i.issued.Identity)
	}
	_, err = gossip.CreateKeyring(filepath.Join(dir, keyringFile), i.keys...)
	return err
}

// decodeInvitation reads what encode wrote. What is wrong with it is told without its secrets.
func decodeInvitation(data []byte) (i invitation, err error) {
	if len(data) > maxInvitation {
		return i, fmt.Errorf("it has more than %d bytes", maxInvitation)
	}
	head, rest := pem.Decode(data)
	switch {
	case head == nil || head.Type != invitationType:
		return i, errors.New("it does not begin with " + invitationType)
	case head.Headers["Format"] != invitationFormat:
		return i, fmt.Errorf("its format is %q, and this program reads %s: join with the release that made it", head.Headers["Format"], invitationFormat)
	}
	i.name, i.side, i.join = head.Headers["Name"], head.Headers["Side"], strings.Fields(head.Headers["Join"])
	if i.rank, err = strconv.Atoi(head.Headers["Rank"]); err != nil {
		return i, errors.New("its rank is no number")
	}
	i.issued.Identity = ca.Identity{Cluster: head.Headers["Cluster"], Role: ca.RoleDirector, Name: i.name}
	if err := i.issued.Identity.Validate(); err != nil {
		return i, err
	}
	if i.keys, err = gossip.ParseKeys(head.Bytes); err != nil {
		return i, fmt.Errorf("its keyring: %w", err)
	}
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		part := pem.EncodeToMemory(block)
		switch {
		case block.Type == "PRIVATE KEY" && i.issued.Key == nil:
			i.issued.Key = part
		case block.Type == "CERTIFICATE" && i.issued.Key == nil:
			i.issued.Cert = append(i.issued.Cert, part...)
		case block.Type == "CERTIFICATE":
			i.issued.CA = append(i.issued.CA, part...)
		default:
			return i, fmt.Errorf("it holds a %q that does not belong there", block.Type)
		}
	}
	if i.issued.Cert == nil || i.issued.Key == nil || i.issued.CA == nil {
		return i, errors.New("it is cut off: certificate, key and the authority's certificate belong in it")
	}
	return i, nil
}

// ringText is a keyring as its file has it.
func ringText(keys [][]byte) (text []byte) {
	for _, k := range keys {
		text = append(base64.StdEncoding.AppendEncode(text, k), '\n')
	}
	return text
}
