package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// forwarding is whether packets are forwarded, of a family. To write it changes the interfaces' settings, too
// (inet_forward_change in net/ipv4/devinet.c, addrconf_fixup_forwarding in net/ipv6/addrconf.c), so that its value is all of
// them: "PATH=VALUE PATH=VALUE ...", the one that changes the others first.
type forwarding struct{ v6 bool }

func (f forwarding) key() string    { return "forwarding " + number(f.v6) }
func (f forwarding) String() string { return "forwarding of IPv" + number(f.v6) }
func (f forwarding) object() bool   { return false }

func (f forwarding) trigger() string {
	if f.v6 {
		return conf6("all", "forwarding")
	}
	return "net/ipv4/ip_forward"
}

func (f forwarding) want() string { return f.trigger() + "=1" }

// others are the settings that change with it, and what they become where it is switched on.
func (f forwarding) others() (paths []string, becomes func(path string) string, err error) {
	dir := filepath.Dir(filepath.Dir(conf4("all", "")))
	if f.v6 {
		dir = filepath.Dir(filepath.Dir(conf6("all", "")))
	}
	devices, err := os.ReadDir(filepath.Join("/proc/sys", dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("there is no IPv%s", number(f.v6))
	}
	if err != nil {
		return nil, nil, err
	}
	for _, d := range devices {
		if d.Name() != "all" {
			paths = append(paths, filepath.Join(dir, d.Name(), "forwarding"))
		}
	}
	redirects := conf4("all", "accept_redirects")
	if !f.v6 {
		paths = append(paths, redirects)
	}
	return paths, func(path string) string {
		if path == redirects {
			return "0"
		}
		return "1"
	}, nil
}

func (f forwarding) read(v *view) (string, error) {
	paths, _, err := f.others()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i, path := range slices.Concat([]string{f.trigger()}, paths) {
		value, err := v.setting(path)
		switch {
		case err != nil:
			return "", err
		case value == "":
			continue // went with its device
		case i > 0:
			b.WriteByte(' ')
		}
		b.WriteString(path + "=" + value)
	}
	return b.String(), nil
}

// write also puts back what the interfaces had, except where somebody changed it meanwhile.
func (f forwarding) write(v *view, value string) error {
	first, rest, _ := strings.Cut(value, " ")
	path, on, _ := strings.Cut(first, "=")
	if on == "1" && rest == "" {
		return v.set(path, on)
	}
	_, becomes, err := f.others()
	if err != nil {
		return err
	}
	back := map[string]string{}
	for _, one := range strings.Fields(rest) {
		path, was, _ := strings.Cut(one, "=")
		now, err := v.setting(path)
		if err != nil {
			return err
		}
		if back[path] = was; now != becomes(path) {
			back[path] = now
		}
	}
	errs := []error{v.set(path, on)}
	for path, value := range back {
		if value != "" {
			errs = append(errs, v.set(path, value))
		}
	}
	return errors.Join(errs...)
}

// same compares the switch alone: interfaces come and go.
func (f forwarding) same(a, b string) bool {
	a, _, _ = strings.Cut(a, " ")
	b, _, _ = strings.Cut(b, " ")
	return a == b
}
