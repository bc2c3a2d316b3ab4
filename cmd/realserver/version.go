package main

import (
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
}

func versionCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "tell the version of this program",
		Description: describe(`Prints the version of this program; that of a running agent is in its status.`, "realserver version", "realserver version --json"),
		Action: func(c *cli.Context) error {
			if err := takes(c, 0); err != nil {
				return err
			}
			a := versionAnswer{version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return env.show(a, func(p *page) { p.line("realserver %s (%s, %s)", a.Version, a.Go, a.Platform) })
		},
	}
}
