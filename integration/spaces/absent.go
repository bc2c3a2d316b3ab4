package spaces

import (
	"os"
	"testing"
)

// Root is what a test calls first that takes a kernel of its own: namespaces, mounts, eBPF.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Absent(t, "root, for a network namespace, a mount or eBPF of the test's own")
	}
}

// Absent skips a test for what the machine lacks. Where all is meant to be there that is a failure.
func Absent(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("missing here: " + what)
	}
	t.Skip("missing here: " + what)
}
