package software

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tunneldirector/integration/vm/debs"
)

// Unpack returns the programs of Debian's packages, found by their paths in these, and the environment they run in. The packages are
// kept below a directory, build/vm of the project, for the next one who asks. An error says that they cannot be had.
func Unpack(ctx context.Context, dir string, log *slog.Logger, packages []string, programs ...string) (paths, env []string, err error) {
	all, err := get(ctx, dir, log, packages)
	if err != nil {
		return nil, nil, err
	}
	var libraries []string
	for _, p := range all {
		if p.Name == "libc6" {
			continue // the host's own, which goes with the host's loader
		}
		for _, pattern := range []string{"lib/*-linux-gnu", "usr/lib/*-linux-gnu"} {
			found, _ := filepath.Glob(filepath.Join(p.Dir, pattern)) // the pattern is right
			libraries = append(libraries, found...)
		}
	}
	for _, program := range programs {
		i := slices.IndexFunc(all, func(p debs.Package) bool { _, err := os.Stat(filepath.Join(p.Dir, program)); return err == nil })
		if i < 0 {
			return nil, nil, fmt.Errorf("none of the packages %q has %s", packages, program)
		}
		paths = append(paths, filepath.Join(all[i].Dir, program))
	}
	return paths, append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":")), nil
}

func get(ctx context.Context, dir string, log *slog.Logger, packages []string) ([]debs.Package, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	unlock, err := debs.Lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, err := debs.New(filepath.Join(dir, "debs"), log).Get(ctx, packages...)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", strings.Join(packages, ", "), err)
	}
	return all, nil
}
