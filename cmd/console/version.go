package console

import (
	"runtime"
	"runtime/debug"
)

// Version is what this program was built from: the module's version, or the commit.
func Version() string {
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

// A VersionAnswer is what `version` prints with --json.
type VersionAnswer struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// ThisVersion is this program's.
func ThisVersion() VersionAnswer {
	return VersionAnswer{Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
}

// Line prints it, with the program's name.
func (a VersionAnswer) Line(p *Page, program string) {
	p.Line("%s %s (%s, %s)", program, a.Version, a.Go, a.Platform)
}
