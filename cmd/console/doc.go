// Package console is what the command lines of both programs have in common: how they are read and refused, how answers and errors
// are printed, exit codes, help, completion and version. It knows no command, and nothing of directors and real servers.
package console
