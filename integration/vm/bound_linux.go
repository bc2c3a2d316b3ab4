package vm

import (
	"os/exec"
	"runtime"
	"syscall"
)

// bind makes a command that is about to start end when this process does, however it does: a guest that nobody listens to
// would go on for as long as the machine. The kernel goes by the thread that starts the command, which is kept until release.
func bind(cmd *exec.Cmd) (release func()) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return runtime.UnlockOSThread
}
