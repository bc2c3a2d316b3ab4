//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "demo: it needs Linux, for network namespaces and XDP")
	os.Exit(2)
}
