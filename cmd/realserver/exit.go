package main

import (
	"tunneldirector/cmd/console"
)

// exitCodes are what the help says of them.
const exitCodes = `0    done
1    failed: the message says at what
2    wrong usage: nothing was done
4    the daemon cannot be reached
6    not all is well: plan --check has changes, doctor found what breaks tunnels, status --check has troubles
130  interrupted (Ctrl-C)`

// report tells an error to whoever called, and returns the exit code.
func report(env *console.Env, err error) int {
	code := console.ExitCode(err)
	if err != nil {
		env.Tell("realserver", console.ErrorLine{Error: err.Error(), Code: code}, err.Error())
	}
	return code
}
