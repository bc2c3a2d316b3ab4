package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"tunneldirector/cluster/gossip"
	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

func clusterKeyringCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "keyring", Usage: "list and change the keys that gossip and heartbeats are sealed with",
		Description: console.Describe(`
All directors share a ring of keys: each opens with any of them and seals with the first. A change is
made on the director that is asked, and by it on all others that are alive; it is written to their
files. Keys are called by their fingerprints and shown to nobody.`,
			"director cluster keyring list", "director cluster keyring rotate"),
		Subcommands: []*cli.Command{keyringListCommand(env), keyringAddCommand(env), keyringChangeCommand(env, api.KeyUse), keyringChangeCommand(env, api.KeyRemove), keyringRotateCommand(env)},
	}
}

func keyringListCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list the keys, and which directors have them",
		Description: console.Describe(`Lists the keys by their fingerprints.`, "director cluster keyring list"),
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			list, err := t.client.Keyring(ctx)
			if err != nil {
				return err
			}
			return t.Show(api.KeyList{Keys: list}, func(p *console.Page) {
				var rows [][]string
				for _, k := range list {
					rows = append(rows, []string{k.Fingerprint, strings.Join(k.PrimaryOn, " "), strings.Join(k.On, " "), strings.Join(k.Missing, " ")})
				}
				p.Table([]console.Column{{Name: "key"}, {Name: "seals on"}, {Name: "opens on"}, {Name: "missing on"}}, rows)
			})
		}),
	}
}

func keyringAddCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "add a key to all rings",
		Description: console.Describe(`
The director makes a new key, or takes the one of a file (base64, a line; "-": standard input), and all
directors open with it from then on. They go on sealing with the old one until keyring use.`,
			"director cluster keyring add", "director cluster keyring add --key-file /root/new.key"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "key-file", Usage: "`FILE` with the key; default: the director makes one"}},
		Action: asks(env, console.Count{}, func(ctx context.Context, t *talk) error {
			r := api.KeyringRequest{Do: api.KeyAdd}
			if name := t.String("key-file"); name != "" {
				text, err := readRecords(ctx, t.Env, name)
				if err != nil {
					return err
				}
				keys, err := gossip.ParseKeys(text)
				if err != nil {
					return fmt.Errorf("--key-file %s: %w; a key is a line of base64 of 16, 24 or 32 bytes", name, err)
				}
				if len(keys) != 1 {
					return fmt.Errorf("--key-file %s: holds %d keys; write the one that is to be added into a file of its own", name, len(keys))
				}
				r.Key = strings.TrimSpace(string(text))
			}
			return t.changeKeyring(ctx, r)
		}),
	}
}

func keyringChangeCommand(env *console.Env, do string) *cli.Command {
	usage, text := "seal with a key that all have", `
All directors seal with the key from then on. It is refused while one lacks it or is dead, and so could
not open: see keyring list.`
	if do == api.KeyRemove {
		usage, text = "take a key off all rings", `
No director opens with the key any more. The key that seals cannot be removed: use another one first.`
	}
	return &cli.Command{
		Name: do, Usage: usage, ArgsUsage: "KEY",
		Description: console.Describe(text, "director cluster keyring "+do+" 0123456789ab"),
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "though a director that lacks the key, or is dead, is locked out"}},
		Action: asks(env, console.Count{Min: 1, Max: 1}, func(ctx context.Context, t *talk) error {
			return t.changeKeyring(ctx, api.KeyringRequest{Do: do, Fingerprint: t.Args().First(), Force: t.Bool("force")})
		}),
	}
}

// A keyringLine is one change, with --json.
type keyringLine struct {
	Do          string   `json:"do"`
	Fingerprint string   `json:"fingerprint"`
	Missing     []string `json:"missing,omitempty"` // who has not got a key that was added
}

var keyringWords = map[string]string{
	api.KeyAdd: "key %s is added: all live directors open with it", api.KeyUse: "key %s is used: all live directors seal with it", api.KeyRemove: "key %s is removed: no live director opens with it any more",
}

func (t *talk) changeKeyring(ctx context.Context, r api.KeyringRequest) error {
	fingerprint, err := t.client.ChangeKeyring(ctx, r)
	if err != nil {
		return err
	}
	line := keyringLine{Do: r.Do, Fingerprint: fingerprint}
	if r.Do == api.KeyAdd {
		list, err := t.client.Keyring(ctx)
		if err != nil {
			return fmt.Errorf("key %s is added; ask who has it: %w", fingerprint, err)
		}
		for _, k := range list {
			if k.Fingerprint == fingerprint {
				line.Missing = k.Missing
			}
		}
	}
	return t.Show(line, func(p *console.Page) {
		if len(line.Missing) > 0 {
			p.Line("key %s is added, but %s without it: it does not answer", fingerprint, is(line.Missing))
			return
		}
		p.Line(keyringWords[r.Do], fingerprint)
	})
}

func keyringRotateCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "replace the key by a new one, without a gap",
		Description: console.Describe(`
Adds a new key, waits until all directors have it, has all seal with it, waits again, and removes the
old one: three changes, each told when it is done. A director that is dead would be locked out, so all
have to be alive; one that is scrapped is forgotten before. If it is cut off, rotate again says how to
go on. --timeout is for each step.`,
			"director cluster keyring rotate"),
		Action: streams(env, console.Count{}, func(ctx context.Context, t *talk) error {
			return (&rotation{t: t, every: rotateEvery}).run(ctx)
		}),
	}
}

// primary is the key that all who answer seal with.
func primary(list []api.KeyInfo) (string, error) {
	sealing := slices.DeleteFunc(slices.Clone(list), func(k api.KeyInfo) bool { return len(k.PrimaryOn) == 0 })
	if len(sealing) != 1 {
		return "", fmt.Errorf("%d keys seal on one director or another: see director cluster keyring list, and end what was begun with keyring use", len(sealing))
	}
	return sealing[0].Fingerprint, nil
}
