//go:build !linux

// Command init is the first process of a Linux guest.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "init: this is the first process of a Linux virtual machine")
	os.Exit(2)
}
