package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/realserver"
)

func completionCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a script that completes command lines", ArgsUsage: "bash|zsh|fish",
		Description: describe(`
Prints a script for the shell. Commands, flags and, where the agent runs, names of real servers are
completed.`,
			"source <(realserver completion bash)",
			"realserver completion zsh > /usr/share/zsh/site-functions/_realserver",
			"realserver completion fish > ~/.config/fish/completions/realserver.fish"),
		Action: func(c *cli.Context) error {
			if err := takes(c, 1); err != nil {
				return err
			}
			script, ok := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Args().First()]
			if !ok {
				return usage("realserver completion %s: is not bash, zsh or fish", c.Args().First())
			}
			_, err := fmt.Fprint(env.Stdout, script)
			return err
		},
	}
}

// completeCommand is what the scripts call: it prints what the last of the words may be, one a line, and a tab and what it means.
func completeCommand(env *Env) *cli.Command {
	return &cli.Command{
		Name: "__complete", Hidden: true, Usage: "tell what a command line may go on with", ArgsUsage: "WORD...", SkipFlagParsing: true,
		Description: describe(`For the scripts of realserver completion.`, "realserver __complete -- tunnels r"),
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) > 0 && words[0] == "--" {
				words = words[1:]
			}
			if len(words) == 0 {
				words = []string{""}
			}
			last := words[len(words)-1]
			for _, w := range choices(c.Context, env, words[:len(words)-1], last) {
				if word, _, _ := strings.Cut(w, "\t"); strings.HasPrefix(word, last) {
					fmt.Fprintln(env.Stdout, w)
				}
			}
			return nil
		},
	}
}

// choices are what may follow some words, with what they mean.
func choices(ctx context.Context, env *Env, before []string, word string) (out []string) {
	all := prepared(env, commands(env))
	if len(before) == 0 {
		for _, c := range all {
			if !c.Hidden {
				out = append(out, c.Name+"\t"+c.Usage)
			}
		}
		return out
	}
	i := slices.IndexFunc(all, func(c *cli.Command) bool { return c.Name == before[0] })
	switch {
	case i < 0:
		return nil
	case strings.HasPrefix(word, "-"):
		for _, f := range all[i].Flags {
			if d, ok := f.(cli.DocGenerationFlag); ok {
				out = append(out, "--"+f.Names()[0]+"\t"+strings.ReplaceAll(d.GetUsage(), "`", ""))
			}
		}
		return append(out, "--help\tshow help")
	case before[0] == "completion":
		return []string{"bash", "zsh", "fish"}
	case before[0] == "tunnels" && !slices.Contains([]string{"--socket", "-socket"}, before[len(before)-1]):
		return names(ctx, socketOf(env, before))
	}
	return nil
}

// socketOf is the daemon's socket that some words, or the environment, name.
func socketOf(env *Env, words []string) string {
	for i, w := range words {
		if name, value, has := strings.Cut(strings.TrimLeft(w, "-"), "="); name == flagSocket && has {
			return value
		} else if name == flagSocket && i+1 < len(words) {
			return words[i+1]
		}
	}
	if s := env.Getenv("REALSERVER_SOCKET"); s != "" {
		return s
	}
	return defaultSocket
}

// names are the real servers that a daemon looks after. Errors are no names: completion stays silent.
func names(ctx context.Context, socket string) (out []string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var s realserver.Status
	if ask(ctx, socket, "/status", &s) != nil {
		return nil
	}
	for _, r := range s.RealServers {
		out = append(out, r.Name+"\t"+r.Terminator+", "+r.Health)
	}
	return out
}

const bashCompletion = `# bash completion of realserver
_realserver() {
    local cur words cword
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n =: cur words cword
    else
        cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    fi
    local IFS=$'\n'
    COMPREPLY=($("${words[0]}" __complete -- "${words[@]:1:cword}" 2>/dev/null | cut -f1))
}
complete -o default -F _realserver realserver
`

const zshCompletion = `#compdef realserver
# zsh completion of realserver
_realserver() {
    local -a choices
    local line
    for line in "${(@f)$(${words[1]} __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -n $line ]] && choices+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( ${#choices} )); then
        _describe 'realserver' choices
    else
        _files
    fi
}
if [[ $funcstack[1] == _realserver ]]; then
    _realserver "$@"
else
    compdef _realserver realserver
fi
`

const fishCompletion = `# fish completion of realserver
function __realserver_complete
    set -l words (commandline -opc) (commandline -ct)
    realserver __complete -- $words[2..-1] 2>/dev/null
end
complete -c realserver -a '(__realserver_complete)'
`
