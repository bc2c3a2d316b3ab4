package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sync/errgroup"

	"tunneldirector/integration/vm/wire"
)

// machine is one boot.
type machine struct {
	qemu   func(ctx context.Context, args ...string) *exec.Cmd
	accel  string
	kernel string
	initrd string // "": none
	memory int    // MB
	cpus   int
}

// cmdline: a panic ends the guest at once, and so do a lack of memory and a fault in the kernel, which tests would take for
// something else. A processor that is stuck is told with what all of them were at, which is a warning to the kernel and nothing that
// it says when quiet.
const cmdline = "console=ttyS0 loglevel=5 softlockup_all_cpu_backtrace=1 panic=-1 oops=panic mitigations=off sysctl.vm.panic_on_oom=1"

// An emulated guest has no erms: its kernel would copy and clear memory byte by byte, which only hardware is fast at. And it trusts the
// time stamp counters of its processors, which are one: otherwise each look at the clock, which Go programs do all the time, leaves the
// guest for its HPET, for 10 us and not 0.5. Together that is a fifth of the time that it takes a processor for.
const (
	emulatedCPU     = "max,-erms"
	emulatedCmdline = cmdline + " tsc=reliable"
)

// args are qemu's arguments for a machine that says what it has to say on the console.
func (m machine) args() []string {
	cpu, cmdline := "max", cmdline
	if m.accel == emulation {
		cpu, cmdline = emulatedCPU, emulatedCmdline
	}
	args := []string{
		"-accel", m.accel, "-cpu", cpu, "-m", strconv.Itoa(m.memory), "-smp", strconv.Itoa(m.cpus),
		"-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot",
		"-kernel", m.kernel, "-append", cmdline, "-serial", "stdio",
	}
	if m.initrd != "" {
		args = append(args, "-initrd", m.initrd)
	}
	return args
}

// ports are its arguments for virtio-serial ports, whose other ends are pipes that qemu inherits.
func ports(names ...string) []string {
	args := []string{"-device", "virtio-serial"}
	for i, name := range names {
		args = append(args, "-chardev", fmt.Sprintf("file,id=%s,path=/dev/fd/%d", name, 3+i), "-device", fmt.Sprintf("virtserialport,chardev=%s,name=%[1]s", name))
	}
	return args
}

// run boots the machine and returns when it is off. What it says is read by the given functions, each until its end.
func (m machine) run(ctx context.Context, console io.Writer, events, out func(io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := new(errgroup.Group)
	cmd := m.qemu(ctx, append(m.args(), ports(wire.EventPort, wire.OutPort)...)...)
	cmd.Stdout, cmd.Stderr = console, console
	defer bind(cmd)()
	for _, read := range []func(io.Reader) error{events, out} {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer w.Close() // a second time where all goes well
		cmd.ExtraFiles = append(cmd.ExtraFiles, w)
		g.Go(func() error {
			defer r.Close()
			err := read(r)
			if err != nil {
				cancel()
			}
			return err
		})
	}
	started := cmd.Start()
	for _, w := range cmd.ExtraFiles {
		w.Close()
	}
	if started != nil {
		return fmt.Errorf("start qemu: %w", started)
	}
	ended := cmd.Wait()
	if err := g.Wait(); err != nil {
		return err
	}
	return ended
}
