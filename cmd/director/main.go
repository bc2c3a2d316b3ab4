package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"tunneldirector/cmd/console"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	env := console.OfProcess()
	os.Exit(report(env, director(ctx, env, os.Args[1:])))
}
