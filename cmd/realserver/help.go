package main

import "strings"

// describe makes a description: what the command does, then examples, one a line.
func describe(text string, examples ...string) string {
	return strings.TrimSpace(text) + "\n\nExamples:\n  " + strings.Join(examples, "\n  ")
}

const appDescription = `The agent runs on a host of real servers (tunnel terminators). It answers the directors' probes, tells them
what is established and how loaded each terminator is, and re-establishes tunnels that directors hand over.
` + "`realserver run`" + ` is the daemon. plan, apply, revert and doctor make the host right for the forwarding methods
dr and tunnel, put it back, and say what is wrong with it; the daemon need not run for them.

Examples:
  realserver doctor
  realserver plan
  realserver status`

var appHelp = `NAME:
   {{.Name}} - {{.Usage}}

USAGE:
   {{.Name}} command [options] [arguments]

DESCRIPTION:
   {{wrap .Description 3}}

COMMANDS:{{range .VisibleCommands}}
   {{printf "%-11s" .Name}} {{.Usage}}{{end}}

EXIT CODES:
   ` + strings.ReplaceAll(exitCodes, "\n", "\n   ") + `
`

const commandHelp = `NAME:
   {{.HelpName}} - {{.Usage}}

USAGE:
   {{.HelpName}}{{if .VisibleFlags}} [options]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}

DESCRIPTION:
   {{wrap .Description 3}}

OPTIONS:{{range .VisibleFlags}}
   {{wrap .String 6}}{{end}}

   Exit codes: realserver --help
`
