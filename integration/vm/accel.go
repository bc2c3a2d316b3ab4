package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What runs the guest's instructions.
const (
	hardware  = "kvm"
	emulation = "tcg,thread=multi"
)

// probeTime is how long the kernel may take to boot by hardware. Some virtual machines have the device, but what runs by it
// hangs or fails.
const probeTime = 10 * time.Second

// rootless is what a kernel says last that was given no file system; then it has booted.
const rootless = "Unable to mount root fs"

// accelerator finds out by a boot whether hardware can do it, once for each boot of the host.
func accelerator(ctx context.Context, p prepared) (string, error) {
	if device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		return emulation, nil
	} else if err := device.Close(); err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	kept := filepath.Join(p.dir, "accelerator")
	if b, err := os.ReadFile(kept); err == nil {
		if accel, ok := strings.CutPrefix(string(b), string(boot)); ok && (accel == hardware || accel == emulation) {
			return accel, nil
		}
	}
	accel := emulation
	if boots(ctx, p) {
		accel = hardware
	}
	if err := ctx.Err(); err != nil { // the probe was cut off: it says nothing
		return "", context.Cause(ctx)
	}
	if err := os.WriteFile(kept, append(boot, accel...), 0o644); err != nil {
		return "", errors.Join(errors.New("keep what the probe of /dev/kvm found"), err)
	}
	return accel, nil
}

// boots tells whether the kernel comes up by hardware.
func boots(ctx context.Context, p prepared) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	out, err := p.qemu(ctx, machine{accel: hardware, kernel: p.kernel, memory: 512, cpus: 1}.args()...).CombinedOutput()
	return err == nil && strings.Contains(string(out), rootless)
}
