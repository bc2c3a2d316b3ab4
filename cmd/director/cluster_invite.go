package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cluster/ca"
	"tunneldirector/cluster/gossip"
	"tunneldirector/cmd/console"
	"tunneldirector/director/config"
)

func clusterInviteCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "invite", Usage: "make the file with which another director joins", ArgsUsage: "NAME",
		Description: console.Describe(`
Makes an invitation for the director NAME, on the director that has the authority: one file with its
certificate and key, the authority's certificate, the keyring, and where the directors that are known
here gossip. Who has it can speak as that director, and read what directors tell each other: bring it to
that machine alone, over a way that nobody reads, join with it, and delete it. Asks no director.`,
			"director cluster invite d2 --rank 2 --out d2.invitation", "director cluster invite d3 --rank 3 --side subnet > d3.invitation"),
		Flags: []cli.Flag{
			configFileFlag(),
			&cli.IntFlag{Name: "rank", Usage: "its `RANK`, 1 to 16, that no other director has"},
			&cli.StringFlag{Name: "side", Value: config.RoleBothSides, Usage: "`SIDE` where it stands: both, tunnel or subnet"},
			&cli.IntFlag{Name: "days", Value: int(ca.Validity / (24 * time.Hour)), Usage: "how many `DAYS` its first certificate is valid; it renews itself"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write, readable by you alone; default: standard output"},
		},
		Action: asksNobody(env, console.Count{Min: 1, Max: 1}, clusterInvite),
	}
}

func clusterInvite(t *talk) error {
	cfg, err := memberOf(t.String(configFlag))
	if err != nil {
		return err
	}
	i := invitation{name: t.Args().First(), rank: t.Int("rank"), side: t.String("side")}
	switch {
	case i.rank < 1 || i.rank > 16:
		return console.Usage("--rank %d: is not between 1 and 16; each director has another one", i.rank)
	case i.rank == cfg.Cluster.Rank:
		return console.Usage("--rank %d: is that of this director, %s", i.rank, cfg.Name)
	case i.name == cfg.Name:
		return console.Usage("%s is this director", i.name)
	case !slices.Contains([]string{config.RoleBothSides, config.RoleTunnelSide, config.RoleSubnetSide}, i.side):
		return console.Usage("--side %s: is not both, tunnel or subnet", i.side)
	case t.Int("days") < 1 || t.Int("days") > 3650:
		return console.Usage("--days %d: is not between 1 and 3650", t.Int("days"))
	case t.String("out") == "" && t.IsTerminal(t.Stdout):
		return console.Usage("an invitation holds keys, which do not belong on a screen: --out FILE")
	}
	authority, err := ca.Read(cfg.Cluster.Authority)
	if err != nil {
		return err
	}
	if i.issued, err = authority.Issue(ca.RoleDirector, i.name, t.Now(), time.Duration(t.Int("days"))*24*time.Hour); err != nil {
		return err
	}
	ring, err := gossip.OpenKeyring(cfg.Cluster.Keyring)
	if err != nil {
		return err
	}
	i.keys = ring.Keys()
	if i.issued.CA, err = os.ReadFile(cfg.Cluster.TLS.CA); err != nil { // there may be more than one authority in it
		return err
	}
	i.join = []string{cfg.Cluster.Gossip.String()}
	for _, j := range cfg.Cluster.Join {
		if !slices.Contains(i.join, j) {
			i.join = append(i.join, j)
		}
	}
	return t.hand(i)
}

// hand writes an invitation.
func (t *talk) hand(i invitation) error {
	name := t.String("out")
	if name == "" {
		if f, ok := t.Stdout.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm() != 0o600 {
				if err := f.Chmod(0o600); err != nil {
					return fmt.Errorf("keep the invitation from others: %w", err)
				}
			}
		}
		if _, err := t.Stdout.Write(i.encode()); err != nil {
			return fmt.Errorf("write the invitation: %w", err)
		}
		name = i.name + ".invitation"
	} else {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write the invitation: %s is there already, and stays", name)
		} else if err != nil {
			return fmt.Errorf("write the invitation: %w", err)
		}
		_, err = f.Write(i.encode())
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return errors.Join(fmt.Errorf("write the invitation: %w", err), os.Remove(name))
		}
	}
	if t.JSON && t.String("out") != "" {
		return t.JSONLine(map[string]any{"name": i.name, "rank": i.rank, "file": name})
	}
	t.note("The invitation of director %s is SECRET: it holds its key and the keyring of the cluster. Next:", i.name)
	t.note("  1. bring it to that machine, over a way that nobody else reads: scp")
	t.note("  2. there: director cluster join %s --listen ADDRESS --write /etc/tunneldirector/director.yaml", name)
	t.note("  3. delete it on both")
	return nil
}

// An invitation is all that a director needs to join. It travels as PEM: a block with the facts in its head and the keyring in
// its body, then the certificate, its key, and the authorities.
type invitation struct {
	name   string
	rank   int
	side   string
	join   []string
	keys   [][]byte
	issued ca.Issued
}

const (
	invitationType   = "TUNNEL DIRECTOR INVITATION"
	invitationFormat = "1"
	maxInvitation    = 256 << 10
)

func (i invitation) encode() []byte {
	out := pem.EncodeToMemory(&pem.Block{Type: invitationType, Headers: map[string]string{
		"Format": invitationFormat, "Cluster": i.issued.Identity.Cluster, "Name": i.name, "Rank": strconv.Itoa(i.rank), "Side": i.side, "Join": strings.Join(i.join, " "),
	}, Bytes: ringText(i.keys)})
	return slices.Concat(out, i.issued.Cert, i.issued.Key, i.issued.CA)
}
