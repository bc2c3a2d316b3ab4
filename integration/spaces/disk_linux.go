package spaces

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a directory that is a file system of so many bytes, in memory. The test's goroutine, left on a thread of its own, and the
// processes that it starts see it alone, as they do what Mount mounts. It skips where nothing can be mounted; in CI that is a failure.
func Disk(t testing.TB, size int) (dir string) {
	t.Helper()
	Root(t)
	dir = t.TempDir()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	Mount(t, "tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	return dir
}

// Mount mounts what, as mount(2) has it, until the test ends.
func Mount(t testing.TB, what, dir, kind string, flags uintptr, options string) {
	t.Helper()
	must(t, unix.Mount(what, dir, kind, flags, options))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}
