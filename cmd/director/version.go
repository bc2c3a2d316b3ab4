package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is what this program was built from: the module's version, or the commit.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range b.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	switch {
	case b.Main.Version != "" && b.Main.Version != "(devel)":
		return b.Main.Version
	case revision != "":
		return revision + dirty
	}
	return "devel"
}

// A versionAnswer is what `version` prints with --json.
type versionAnswer struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Director string `json:"director,omitempty"`
}

func versionCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "tell the version of this program",
		Description: describe(`
Prints the version of this program, and with --remote that of the running director too: after an
upgrade they differ until the daemon is restarted.`,
			"director version", "director version --remote --json"),
		Flags: []cli.Flag{&cli.BoolFlag{Name: "remote", Usage: "ask the running director too"}},
		Action: asks(env, count{}, func(ctx context.Context, t *talk) error {
			a := versionAnswer{Version: version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if t.Bool("remote") {
				s, err := t.client.Status(ctx)
				if err != nil {
					return err
				}
				a.Director = s.Version
			}
			return t.show(a, func(p *page) {
				p.line("director %s (%s, %s)", a.Version, a.Go, a.Platform)
				if a.Director != "" {
					p.line("running  %s", a.Director)
				}
			})
		}),
	}
}
