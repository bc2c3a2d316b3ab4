package debs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakes are programs that stand in for apt and dpkg: wanted depends on libx, and a kernel's meta package on a kernel and more.
// Each call is a line in $CALLS; a file $BROKEN makes that program fail.
var fakes = map[string]string{
	"apt-config": `echo 'Acquire::http::Proxy "http://proxy.example:3128";'; echo 'DPkg::Post-Invoke:: "touch /";'; echo 'APT::Update::Post-Invoke:: "touch /";'`,
	"apt-get": `case $1 in
update) ;;
install) for name; do :; done
	case $name in
	linux-image-amd64) echo "'http://192.0.2.1/a.deb' kmod_30_amd64.deb 9 SHA256:0"; echo "'http://192.0.2.1/b.deb' linux-image-6.1.0-9-amd64_6.1_amd64.deb 9 SHA256:0" ;;
	nokernel) ;;
	*) echo "'http://192.0.2.1/c.deb' libx_1%3a2-3_amd64.deb 9 SHA256:0" ;;
	esac
	echo "'http://192.0.2.1/d.deb' ${name}_1_all.deb 9 SHA256:0" ;;
download) shift; for p; do case $p in
	-qq) ;;
	*=*) echo "${p%=*}" >"${p%=*}_$(echo "${p#*=}" | sed s/:/%3a/)_$(case $p in libx*|kmod*|linux-image-6*) echo amd64 ;; *) echo all ;; esac).deb" ;;
	esac; done ;;
esac`,
	"dpkg-deb": `mkdir -p "$3/usr/bin" && cp "$2" "$3/usr/bin/"`,
}

// machine is a host with the fakes for programs.
func machine(t *testing.T) (calls func() []string, breakIt func(program string, broken bool)) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	for name, script := range fakes {
		text := "#!/bin/sh\nset -e\necho \"" + name + " $*\" >>" + log + "\n[ ! -e " + dir + "/broken." + name + " ] || { echo 'no luck' >&2; exit 100; }\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	calls = func() []string {
		b, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.WriteFile(log, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
	return calls, func(program string, broken bool) {
		file := filepath.Join(dir, "broken."+program)
		err := os.WriteFile(file, nil, 0o644)
		if !broken {
			err = os.Remove(file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestGet(t *testing.T) {
	calls, _ := machine(t)
	dir := filepath.Join(t.TempDir(), "debs")
	cache := New(dir, slog.New(slog.DiscardHandler))
	var seen []string
	cache.Unpacked = func(_ context.Context, id, at string) error {
		seen = append(seen, id)
		_, err := os.Stat(filepath.Join(at, "usr", "bin", id+".deb"))
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	want := []Package{
		{Name: "libx", ID: "libx_1%3a2-3_amd64", Dir: filepath.Join(dir, "libx_1%3a2-3_amd64")},
		{Name: "other", ID: "other_1_all", Dir: filepath.Join(dir, "other_1_all"), Wanted: true},
		{Name: "wanted", ID: "wanted_1_all", Dir: filepath.Join(dir, "wanted_1_all"), Wanted: true},
	}
	for _, order := range [][]string{{"wanted", "other"}, {"other", "wanted", "wanted"}} {
		got, err := cache.Get(t.Context(), order...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("packages (-want +got):\n%s", diff)
		}
	}
	wantCalls := []string{
		"apt-config dump", "apt-get update -qq -o APT::Update::Error-Mode=any", "apt-get install --print-uris -y -qq other", "apt-get install --print-uris -y -qq wanted",
		"apt-get download -qq libx=1:2-3 other=1 wanted=1",
	}
	got := calls()
	if diff := cmp.Diff(wantCalls, got[:5]); diff != "" || len(got) != 8 {
		t.Errorf("calls, of which 3 of dpkg-deb (-want +got):\n%s\n%q", diff, got)
	}
	if diff := cmp.Diff([]string{"libx_1%3a2-3_amd64", "other_1_all", "wanted_1_all"}, seen); diff != "" {
		t.Errorf("unpacked (-want +got):\n%s", diff)
	}
	conf, err := os.ReadFile(filepath.Join(dir, "apt", "conf"))
	if err != nil || !strings.Contains(string(conf), "proxy.example") || strings.Contains(string(conf), "Invoke") {
		t.Errorf("apt's configuration has the proxy and no hooks: %v\n%s", err, conf)
	}
}

// TestInterrupted: what fails half-way leaves no package that looks whole, and the next call does the rest only.
func TestInterrupted(t *testing.T) {
	for _, program := range []string{"apt-get", "dpkg-deb"} {
		t.Run(program, func(t *testing.T) {
			calls, breakIt := machine(t)
			dir := t.TempDir()
			cache := New(dir, slog.New(slog.DiscardHandler))
			cache.pause = time.Millisecond
			breakIt(program, true)
			if _, err := cache.Get(t.Context(), "wanted"); err == nil || !strings.Contains(err.Error(), "no luck") {
				t.Fatalf("got %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*_*")); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "unpacking-*")); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			breakIt(program, false)
			if got, err := cache.Get(t.Context(), "wanted"); err != nil || len(got) != 2 {
				t.Fatalf("got %v, %v", got, err)
			}
			// One package is lost: it alone is fetched.
			if err := os.RemoveAll(filepath.Join(dir, "wanted_1_all")); err != nil {
				t.Fatal(err)
			}
			calls()
			if _, err := cache.Get(t.Context(), "wanted"); err != nil {
				t.Fatal(err)
			}
			if got := calls(); !strings.HasSuffix(strings.Join(got[:len(got)-1], "\n"), "apt-get download -qq wanted=1") {
				t.Errorf("calls: %q", got)
			}
		})
	}
}

func TestKernel(t *testing.T) {
	calls, _ := machine(t)
	cache := New(t.TempDir(), slog.New(slog.DiscardHandler))
	got, err := cache.Kernel(t.Context(), "linux-image-amd64")
	if err != nil || got.Name != "linux-image-6.1.0-9-amd64" {
		t.Errorf("got %+v, %v", got, err)
	}
	if all := strings.Join(calls(), "\n"); strings.Contains(all, "kmod") {
		t.Errorf("what the kernel needs to be installed was fetched, too: %s", all)
	}
	if got, err := cache.Kernel(t.Context(), "nokernel"); err == nil {
		t.Errorf("a package that depends on no kernel gave %+v", got)
	}
}

func TestProgramMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New(t.TempDir(), slog.New(slog.DiscardHandler)).Get(t.Context(), "wanted")
	if err == nil || !strings.Contains(err.Error(), "apt-config") {
		t.Errorf("the error does not name the program that is missing: %v", err)
	}
}
