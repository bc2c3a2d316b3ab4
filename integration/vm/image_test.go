package vm

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tunneldirector/integration/vm/debs"
)

// unpacked makes a package of files by their paths; a text that starts with "->" is a link.
func unpacked(t *testing.T, id string, wanted bool, files map[string]string) debs.Package {
	t.Helper()
	p := debs.Package{Name: id, ID: id, Dir: t.TempDir(), Wanted: wanted}
	for name, text := range files {
		at := filepath.Join(p.Dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if len(text) > 2 && text[:2] == "->" {
			err = os.Symlink(text[2:], at)
		} else {
			err = os.WriteFile(at, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// TestContents: a wanted package comes whole but for its documents, of the others comes what is needed, and what that needs.
func TestContents(t *testing.T) {
	const lib = "lib/x86_64-linux-gnu/"
	program := string(elfFile(t, "/lib64/ld.so", "$ORIGIN/../own", "liba.so.1", "libown.so", "libabsent.so"))
	packages := []debs.Package{
		unpacked(t, "wanted", true, map[string]string{
			"bin/program": program, "usr/bin/other": "->program", "usr/bin/out": "->/proc/self/exe", "usr/share/doc/wanted/copyright": "all", "etc/program.conf": "x",
		}),
		unpacked(t, "needed", false, map[string]string{
			lib + "liba.so.1": "->liba.so.1.2", lib + "liba.so.1.2": string(elfFile(t, "", "", "libc.so.6")), lib + "libnot.so": "not needed", "usr/bin/tool": "not needed",
			"usr/own/libown.so": string(elfFile(t, "", "")), lib + "libown.so": "a namesake where nobody looks first",
		}),
		unpacked(t, "libc6", false, map[string]string{lib + "libc.so.6": string(elfFile(t, "", "")), "lib64/ld.so": "->/" + lib + "ld-2.so", lib + "ld-2.so": "the loader"}),
	}
	kernel := unpacked(t, "linux-image-6.1-cloud", false, map[string]string{
		"lib/modules/6.1-cloud/modules.dep":                   "",
		"lib/modules/6.1-cloud/kernel/net/ipv4/esp4.ko":       "",
		"lib/modules/6.1-cloud/kernel/drivers/net/veth.ko":    "",
		"lib/modules/6.1-cloud/kernel/drivers/net/vethx.ko":   "",
		"lib/modules/6.1-cloud/kernel/drivers/scsi/scsi.ko":   "",
		"lib/modules/6.1-cloud/kernel/net/bluetooth/blue.ko":  "",
		"lib/modules/6.1-cloud/kernel/drivers/net/ppp/ppp.ko": "",
		"boot/vmlinuz-6.1-cloud":                              "",
	})
	files, err := contents(t.Context(), kernel, packages)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"etc/program.conf", "usr/bin/other", "usr/bin/out", "usr/bin/program",
		"usr/lib/modules/6.1-cloud/kernel/drivers/net/ppp/ppp.ko", "usr/lib/modules/6.1-cloud/kernel/drivers/net/veth.ko",
		"usr/lib/modules/6.1-cloud/kernel/net/ipv4/esp4.ko", "usr/lib/modules/6.1-cloud/modules.dep",
		"usr/lib/x86_64-linux-gnu/ld-2.so", "usr/lib/x86_64-linux-gnu/liba.so.1", "usr/lib/x86_64-linux-gnu/liba.so.1.2", "usr/lib/x86_64-linux-gnu/libc.so.6",
		"usr/lib64/ld.so", "usr/own/libown.so",
	}
	if diff := cmp.Diff(want, files.names()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestKernelWithoutModules(t *testing.T) {
	kernel := unpacked(t, "linux-image-6.1", false, map[string]string{"lib/modules/6.2/modules.dep": ""})
	if err := addModules(tree{}, kernel); err == nil {
		t.Error("no error")
	}
}

func TestGuestPath(t *testing.T) {
	for in, want := range map[string]string{
		"bin/ip": "usr/bin/ip", "/lib/modules": "usr/lib/modules", "lib64/ld.so": "usr/lib64/ld.so", "usr/bin/ip": "usr/bin/ip", "/etc//x": "etc/x",
		"library/x": "library/x", "lib": "lib", "/../sbin/x": "usr/sbin/x",
	} {
		if got := guestPath(in); got != want {
			t.Errorf("%s lies at %s, want %s", in, got, want)
		}
	}
}

// TestImageIsKept: the same description gives the same file without building; another kernel another one.
func TestImageIsKept(t *testing.T) {
	dir := t.TempDir()
	kernel := func(id string) debs.Package {
		return unpacked(t, id, false, map[string]string{"lib/modules/1/kernel/net/ipv4/esp4.ko": ""})
	}
	one := kernel("linux-image-1")
	first, err := image(t.Context(), dir, one, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(one.Dir); err != nil { // so that it cannot be built again
		t.Fatal(err)
	}
	if again, err := image(t.Context(), dir, one, nil); err != nil || again != first {
		t.Errorf("the second time it is %s, %v; want %s", again, err, first)
	}
	two := kernel("linux-image-1")
	two.ID = "linux-image-1_newer"
	if other, err := image(t.Context(), dir, two, nil); err != nil || other == first {
		t.Errorf("another kernel has image %s, %v", other, err)
	}
}
