// Command init is the guest's first process. It prepares the file systems, runs the job that the host left in a file,
// tells the host what happens, sends it what was left in /out, and powers the machine off.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// work is the argument by which the first process starts itself a second time.
const work = "work"

func main() {
	if os.Getpid() != 1 {
		if len(os.Args) == 2 && os.Args[1] == work {
			if err := run(); err != nil {
				say("%v", err)
				os.Exit(1)
			}
			return
		}
		say("this is the first process of a virtual machine; it is of no use elsewhere")
		os.Exit(2)
	}
	if err := first(); err != nil {
		say("%v", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say("power off: %v", err)
	}
}

// first is what the first process does: it starts the work and buries the dead, its own and those that others left behind.
func first() error {
	if err := mount(); err != nil {
		return err
	}
	cmd := exec.Command("/init", work)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = environment()
	if err := cmd.Start(); err != nil {
		return err
	}
	go watch()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait for the work to end: %w", err)
		case pid == cmd.Process.Pid:
			if status.ExitStatus() != 0 {
				return fmt.Errorf("the work ended with %d", status.ExitStatus())
			}
			return nil
		}
	}
}

// watch tells when the whole machine stood still, as an emulated one does while its host does something else: directors then hear
// nobody, queues run over, and what tests count says nothing of what they test.
func watch() {
	const tick, still = 20 * time.Millisecond, 400 * time.Millisecond
	for was := time.Now(); ; {
		time.Sleep(tick)
		now := time.Now()
		if gap := now.Sub(was) - tick; gap > still {
			say("stood still for %v", gap.Round(time.Millisecond))
		}
		was = now
	}
}

// say writes a line to the console, where the host shows it if the guest comes to nothing.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "init: "+format+"\n", args...)
}
