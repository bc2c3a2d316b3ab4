package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/cluster/ca"
	"tunneldirector/cmd/console"
)

func caCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "ca", Usage: "make and show the certificates of directors and agents",
		Description: console.Describe(`
Directors and the agents on real servers prove to each other who they are by certificates of the
cluster's own authority. It is two files, and no program has to run for it: keep its directory where
only who issues certificates can read it, on no director. Asks no director.`,
			"director ca init --name prod --dir /root/prod-ca",
			"director ca issue --role agent --name node-a --dir /root/prod-ca --out /root/node-a"),
		Subcommands: []*cli.Command{caInitCommand(env), caIssueCommand(env), caShowCommand(env)},
	}
}

// asksNobody makes the action of a command that asks nobody.
func asksNobody(env *console.Env, n console.Count, do func(t *talk) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := n.Check(c); err != nil {
			return err
		}
		return do(&talk{Env: env, Context: c})
	}
}

// needs refuses a command line that lacks one of some flags.
func (t *talk) needs(flags ...string) error {
	for _, f := range flags {
		if t.String(f) == "" {
			return console.Usage("%s lacks --%s; see %s --help", t.Command.HelpName, f, t.Command.HelpName)
		}
	}
	return nil
}

func caInitCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "make the authority of a new cluster",
		Description: console.Describe(`
Makes a key and a certificate valid for 10 years, ca.key and ca.crt. Who has ca.key can speak as any
director. An authority that is there already stays, and is an error.`,
			"director ca init --name prod --dir /root/prod-ca"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "the cluster's `NAME`: letters, digits, and single . and - between them"},
			&cli.StringFlag{Name: "dir", Usage: "`DIR` to write ca.crt and ca.key into; it is made"},
		},
		Action: asksNobody(env, console.Count{}, func(t *talk) error {
			if err := t.needs("name", "dir"); err != nil {
				return err
			}
			c, err := ca.New(t.String("name"), t.Now())
			if err != nil {
				return console.Coded(console.ExitUsage, err)
			}
			files, err := c.Save(t.String("dir"))
			if err != nil {
				return err
			}
			return t.certified(files, ca.Identity{Cluster: c.Cluster(), Role: ca.RoleAuthority, Name: "ca"}, c.Expires())
		}),
	}
}

func caIssueCommand(env *console.Env) *cli.Command {
	days := int(ca.Validity / (24 * time.Hour))
	return &cli.Command{
		Name: "issue", Usage: "certify a director or an agent, or renew its certificate",
		Description: console.Describe(`
Makes a key and a certificate, and writes ROLE-NAME.crt, ROLE-NAME.key and ca.crt, in the place of
those issued to the same one before. Bring the three to that machine, and name them in its file under
tls. A director's NAME is the name in its node's file; an agent's is its host, as real servers' records
have it. To renew is to issue again and put the files in the place of the old ones: no restart.`,
			"director ca issue --role director --name director-1 --dir /root/prod-ca --out /root/director-1",
			"director ca issue --role agent --name node-a --days 90 --dir /root/prod-ca --out /root/node-a"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "role", Usage: "`ROLE`: director or agent"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` of the director, or of the agent's host"},
			&cli.StringFlag{Name: "dir", Usage: "`DIR` of the authority"},
			&cli.StringFlag{Name: "out", Usage: "`DIR` to write into; it is made"},
			&cli.IntFlag{Name: "days", Value: days, Usage: "how many `DAYS` it is valid"},
		},
		Action: asksNobody(env, console.Count{}, func(t *talk) error {
			if err := t.needs("role", "name", "dir", "out"); err != nil {
				return err
			}
			const most = 3650
			if d := t.Int("days"); d < 1 || d > most {
				return console.Usage("--days %d: is not between 1 and %d", d, most)
			}
			role := ca.Role(t.String("role"))
			if role != ca.RoleDirector && role != ca.RoleAgent {
				return console.Usage("--role %s: is not director or agent", role)
			}
			c, err := ca.Read(t.String("dir"))
			if err != nil {
				return err
			}
			if err := (ca.Identity{Cluster: c.Cluster(), Role: role, Name: t.String("name")}).Validate(); err != nil {
				return console.Usage("--name: %w", err)
			}
			issued, err := c.Issue(role, t.String("name"), t.Now(), time.Duration(t.Int("days"))*24*time.Hour)
			if err != nil {
				return err
			}
			files, err := issued.Save(t.String("out"))
			if err != nil {
				return err
			}
			return t.certified(files, issued.Identity, issued.Expires)
		}),
	}
}

// A certifiedAnswer is what was made, with --json.
type certifiedAnswer struct {
	Cluster string    `json:"cluster"`
	Role    ca.Role   `json:"role"`
	Name    string    `json:"name"`
	Expires time.Time `json:"expires"`
	Cert    string    `json:"cert"`
	Key     string    `json:"key"`
	CA      string    `json:"ca,omitempty"`
}

func (t *talk) certified(files ca.Files, id ca.Identity, until time.Time) error {
	a := certifiedAnswer{id.Cluster, id.Role, id.Name, until.UTC(), files.Cert, files.Key, files.CA}
	return t.Show(a, func(p *console.Page) {
		p.Facts([][2]string{{"is", id.String()}, {"expires", utc(until)}, {"cert", files.Cert}, {"key", files.Key}, {"ca", files.CA}})
	})
}

// A certificateAnswer is a certificate, with --json.
type certificateAnswer struct {
	Cluster   string    `json:"cluster"`
	Role      ca.Role   `json:"role"`
	Name      string    `json:"name"`
	State     string    `json:"state"`
	NotBefore time.Time `json:"not_before"`
	Expires   time.Time `json:"expires"`
	SHA256    string    `json:"sha256"`
	File      string    `json:"file"`
}

// A foundCertificate is one of a file.
type foundCertificate struct {
	ca.Certificate
	file string
}

func caShowCommand(env *console.Env) *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "tell whose a certificate is, and until when", ArgsUsage: "FILE...",
		Description: console.Describe(`
Shows the certificates of files: whose each is, how it stands (valid, expires soon, expired, not yet
valid), from when until when, and its SHA-256. Whether key, certificate and authority belong together
is what director check tells.`,
			"director ca show /etc/tunneldirector/director.crt", "director ca show /etc/tunneldirector/*.crt --json"),
		Action: asksNobody(env, console.Count{Min: 1, Max: -1}, func(t *talk) error {
			var all []foundCertificate
			for _, file := range t.Args().Slice() {
				list, err := ca.ReadCertificates(file)
				if err != nil {
					return err
				}
				for _, c := range list {
					all = append(all, foundCertificate{c, file})
				}
			}
			return t.showCertificates(all)
		}),
	}
}

func (t *talk) showCertificates(list []foundCertificate) error {
	now := t.Now()
	var out []certificateAnswer
	for _, c := range list {
		out = append(out, certificateAnswer{c.Identity.Cluster, c.Identity.Role, c.Identity.Name, c.State(now), c.NotBefore, c.Expires, c.SHA256, c.file})
	}
	return t.Show(map[string][]certificateAnswer{"certificates": out}, func(p *console.Page) {
		for i, c := range list {
			if i > 0 {
				p.Line("")
			}
			when := console.Ago(now, c.Expires)
			if left := c.Expires.Sub(now); left > 0 {
				when = "in " + console.Span(left)
			}
			p.Facts([][2]string{{"is", c.Identity.String()}, {"state", c.State(now)}, {"from", utc(c.NotBefore)}, {"until", utc(c.Expires) + " (" + when + ")"}, {"sha256", c.SHA256}, {"file", c.file}})
		}
	})
}
