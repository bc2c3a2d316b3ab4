package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tunneldirector/integration/vm/debs"
)

// moduleTrees are what a guest has of the kernel's modules: what tunnels, data planes and their ciphers are made of.
var moduleTrees = []string{
	"arch/x86/crypto", "crypto", "lib",
	"drivers/block/loop.ko",
	"drivers/char/hw_random/virtio-rng.ko", "drivers/char/virtio_console.ko", "drivers/virtio",
	"drivers/net/dummy.ko", "drivers/net/geneve.ko", "drivers/net/ifb.ko", "drivers/net/ipvlan", "drivers/net/macvlan.ko", "drivers/net/ppp",
	"drivers/net/tun.ko", "drivers/net/veth.ko", "drivers/net/vrf.ko", "drivers/net/vxlan", "drivers/net/wireguard",
	"net/802", "net/8021q", "net/bridge", "net/core", "net/ipv4", "net/ipv6", "net/key", "net/l2tp", "net/llc", "net/mpls", "net/netfilter", "net/netlink",
	"net/packet", "net/sched", "net/unix", "net/xdp", "net/xfrm",
}

// addModules adds the chosen modules of a kernel and the indexes that modprobe reads.
func addModules(files tree, kernel debs.Package) error {
	all := tree{}
	if err := all.add(kernel, "lib/modules"); err != nil {
		return err
	}
	root := path.Join("usr/lib/modules", release(kernel))
	added := 0
	for name, f := range all {
		below, ok := strings.CutPrefix(name, root+"/")
		if !ok {
			continue
		}
		module, isModule := strings.CutPrefix(below, "kernel/")
		chosen := slices.ContainsFunc(moduleTrees, func(t string) bool { return module == t || strings.HasPrefix(module, t+"/") })
		if !isModule || chosen {
			files[name] = f
			added++
		}
	}
	if added == 0 {
		return fmt.Errorf("package %s has no modules below %s", kernel.ID, root)
	}
	return nil
}

// depmod writes the indexes of a kernel's modules, by the kmod of the packages, when the kernel is unpacked.
func depmod(ctx context.Context, packages []debs.Package, id, dir string) error {
	version, ok := strings.CutPrefix(id, "linux-image-")
	if !ok {
		return nil
	}
	version, _, _ = strings.Cut(version, "_")
	cmd, err := command(ctx, packages, "usr/bin/kmod", "depmod", "-b", dir, version)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("depmod: %w: %s", err, out)
	}
	return nil
}

// command runs a program of unpacked packages on the host, by their loader and with their libraries.
func command(ctx context.Context, packages []debs.Package, program, argv0 string, args ...string) (*exec.Cmd, error) {
	const loader = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
	var libraries []string
	at := map[string]string{}
	for _, p := range packages {
		for _, dir := range []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"} {
			if _, err := os.Stat(filepath.Join(p.Dir, dir)); err == nil {
				libraries = append(libraries, filepath.Join(p.Dir, dir))
			}
		}
		for _, name := range []string{loader, program} {
			for _, host := range []string{name, strings.TrimPrefix(name, "usr/")} {
				if info, err := os.Lstat(filepath.Join(p.Dir, host)); err == nil && info.Mode().IsRegular() {
					at[name] = filepath.Join(p.Dir, host)
				}
			}
		}
	}
	for _, name := range []string{loader, program} {
		if at[name] == "" {
			return nil, fmt.Errorf("run %s of the packages: none has %s", argv0, name)
		}
	}
	args = append([]string{"--argv0", argv0, "--library-path", strings.Join(libraries, ":"), at[program]}, args...)
	return exec.CommandContext(ctx, at[loader], args...), nil
}

// release is the kernel's name for itself.
func release(kernel debs.Package) string {
	return strings.TrimPrefix(kernel.Name, "linux-image-")
}
