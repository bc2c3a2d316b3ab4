package console

import "strings"

// Describe makes a description: what the command does, then examples, one a line.
func Describe(text string, examples ...string) string {
	return strings.TrimSpace(text) + "\n\nExamples:\n  " + strings.Join(examples, "\n  ")
}

// appHelp lists global options where there are some beside --help.
func appHelp(p Program) string {
	return `NAME:
   {{.Name}} - {{.Usage}}

USAGE:
   {{.Name}}{{if gt (len .VisibleFlags) 1}} [global options]{{end}} command [options] [arguments]

DESCRIPTION:
   {{wrap .Description 3}}

COMMANDS:{{range .VisibleCommands}}
   {{printf "%-11s" .Name}} {{.Usage}}{{end}}
{{- if gt (len .VisibleFlags) 1}}

GLOBAL OPTIONS:{{range .VisibleFlags}}
   {{wrap .String 6}}{{end}}{{end}}

EXIT CODES:
   ` + strings.ReplaceAll(p.ExitCodes, "\n", "\n   ") + `
`
}

func commandHelp(p Program) string {
	more := "Exit codes"
	if len(p.Flags) > 0 {
		more = "Global options and exit codes"
	}
	return `NAME:
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

   ` + more + ": " + p.Name + ` --help
`
}
