package sysctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMend(t *testing.T) {
	dir := t.TempDir()
	path := "net/ipv4/conf/eth0.7/rp_filter"
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, path), []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := Finding{What: "strict", Why: "packets die", Settings: []Setting{{path, 2}}}
	if got, want := f.String(), "strict: packets die; remedy: sysctl -w net.ipv4.conf.eth0/7.rp_filter=2"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if err := Mend(dir, f); err != nil {
		t.Fatal(err)
	}
	r := &Reader{FS: os.DirFS(dir)}
	if n := r.Int(path); n != 2 || len(r.Errs) > 0 {
		t.Errorf("afterwards %d (%v), want 2", n, r.Errs)
	}
	f.Settings = append([]Setting{{"absent", 1}}, f.Settings...)
	if err := Mend(dir, f); err == nil || !strings.Contains(err.Error(), "strict") {
		t.Errorf("a setting that is not there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "absent")); err == nil {
		t.Error("a setting was invented")
	}
	if err := Mend(dir, Finding{What: "small table", Remedy: "load the module again"}); err == nil || !strings.Contains(err.Error(), "load the module again") {
		t.Errorf("without a setting: %v", err)
	}
}

func TestReader(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "words"), []byte("none\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &Reader{FS: os.DirFS(dir)}
	if n := r.Optional("absent"); n != -1 || len(r.Errs) != 0 {
		t.Errorf("optional: %d, %v", n, r.Errs)
	}
	if n := r.Int("absent"); n != -1 || len(r.Errs) != 1 {
		t.Errorf("absent: %d, %v", n, r.Errs)
	}
	if n := r.Optional("words"); n != -1 || len(r.Errs) != 2 {
		t.Errorf("no number: %d, %v", n, r.Errs)
	}
}
