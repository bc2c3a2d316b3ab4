package doctor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"tunneldirector/director/api"
)

// A sample is what counters say at one moment.
type sample struct {
	status  api.Status
	err     error // of status
	cores   []core
	coreErr error
}

// A core is a processor's counters.
type core struct {
	total, softirq   uint64 // of time, in ticks
	dropped, starved uint64 // packets that its queue had no room for; rounds that ended with packets left
}

func (e *exam) sample(ctx context.Context) (s sample) {
	s.err = errors.New("nobody knows the director's state")
	if e.Status != nil {
		s.status, s.err = e.Status(ctx)
	}
	s.coreErr = errors.New("the machine's counters cannot be read")
	if e.Files != nil {
		s.cores, s.coreErr = readCores(e.Files)
	}
	return s
}

// readCores reads proc/stat and proc/net/softnet_stat (proc(5); net/core/net-procfs.c).
func readCores(files fs.FS) ([]core, error) {
	stat, err := fs.ReadFile(files, "proc/stat")
	if err != nil {
		return nil, fmt.Errorf("read the processors' times: %w", err)
	}
	var out []core
	for line := range lines(stat) {
		fields := strings.Fields(line)
		if len(fields) < 9 || !strings.HasPrefix(fields[0], "cpu") || fields[0] == "cpu" {
			continue
		}
		var c core
		for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read the processors' times: %w", err)
			}
			c.total += n
			if i == 6 {
				c.softirq = n
			}
		}
		out = append(out, c)
	}
	softnet, err := fs.ReadFile(files, "proc/net/softnet_stat")
	if err != nil {
		return nil, fmt.Errorf("read the processors' queues: %w", err)
	}
	i := 0
	for line := range lines(softnet) {
		fields := strings.Fields(line)
		if len(fields) < 3 || i >= len(out) {
			break
		}
		out[i].dropped, _ = strconv.ParseUint(fields[1], 16, 64)
		out[i].starved, _ = strconv.ParseUint(fields[2], 16, 64)
		i++
	}
	return out, nil
}

func lines(b []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}
