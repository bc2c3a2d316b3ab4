package main

import "strings"

// describe makes a description: what the command does, then examples, one a line.
func describe(text string, examples ...string) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(text))
	b.WriteString("\n\nExamples:")
	for _, e := range examples {
		b.WriteString("\n  " + e)
	}
	return b.String()
}

const appDescription = `A director forwards every packet of a tunnel to one real server, and every packet back to the
same one, by an explicit table. ` + "`director run`" + ` is the daemon; the other commands ask a running one,
through the unix socket of this host unless --server says otherwise. Flags may stand anywhere.

Words: a virtual service is what sites dial (VIPs and protocols); a tunnel is a site's endpoints and the
subnets behind it; a real server terminates tunnels; a pin is where a tunnel's group is placed.

A token is read from a file (--token-file), never from the command line.

Examples:
  director status
  director apply site.yaml
  director tunnel import tunnels.csv
  director trace --from 203.0.113.5 --to 192.0.2.10 --proto esp
  director realserver drain rs2`

var appHelp = `NAME:
   {{.Name}} - {{.Usage}}

USAGE:
   {{.Name}} [global options] command [options] [arguments]

DESCRIPTION:
   {{wrap .Description 3}}

COMMANDS:{{range .VisibleCommands}}
   {{printf "%-11s" .Name}} {{.Usage}}{{end}}

GLOBAL OPTIONS:{{range .VisibleFlags}}
   {{wrap .String 6}}{{end}}

EXIT CODES:
   ` + strings.ReplaceAll(exitCodes, "\n", "\n   ") + `
`

const commandHelp = `NAME:
   {{.HelpName}} - {{.Usage}}

USAGE:
   {{.HelpName}}{{if .VisibleCommands}} command{{end}}{{if .VisibleFlags}} [options]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}
{{- if .Description}}

DESCRIPTION:
   {{wrap .Description 3}}{{end}}
{{- if .VisibleCommands}}

COMMANDS:{{range .VisibleCommands}}
   {{printf "%-11s" .Name}} {{.Usage}}{{end}}{{end}}
{{- if .VisibleFlags}}

OPTIONS:{{range .VisibleFlags}}
   {{wrap .String 6}}{{end}}{{end}}

   Global options and exit codes: director --help
`
