package main

import (
	"context"

	"tunneldirector/cmd/console"
)

func main() {
	console.Main(func(ctx context.Context, env *console.Env, args []string) int {
		return report(env, director(ctx, env, args))
	})
}
