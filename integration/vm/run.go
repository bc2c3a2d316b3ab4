package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	consoleKept = 256 << 10        // bytes of the console that are kept
	consoleTold = 4 << 10          // bytes of it in an error
	bootTime    = 90 * time.Second // until the guest's first word; far more than it takes, for machines that are busy
)

// Run does one boot: it compiles what the job takes, runs it in a guest and reports. A report's tests may have failed; an
// error says that there is no full report: a *GuestError where the guest is to blame, else what the host lacks or what does
// not compile. With a GuestError the report holds what is known of the suites.
func Run(ctx context.Context, job Job) (Report, error) {
	job = job.withDefaults()
	begun := time.Now()
	p, err := prepare(ctx, job.Kernel, job.Packages, job.Logger)
	if err != nil {
		return Report{}, err
	}
	ready := time.Now()
	dir, err := os.MkdirTemp(p.dir, "job-")
	if err != nil {
		return Report{}, fmt.Errorf("make a directory for the job: %w", err)
	}
	defer os.RemoveAll(dir)
	compiled, err := compile(ctx, p.root, dir, job)
	if err != nil {
		return Report{}, err
	}
	initrd := filepath.Join(dir, "initrd")
	if err := bring(initrd, p.image, p.root, job, compiled); err != nil {
		return Report{}, err
	}
	job.Logger.Info("boot", "prepared", ready.Sub(begun).Round(time.Millisecond), "compiled", time.Since(ready).Round(time.Millisecond))
	m := machine{qemu: p.qemu, accel: p.accel, kernel: p.kernel, initrd: initrd, memory: job.Memory, cpus: job.CPUs}
	return boot(ctx, m, job)
}

// boot runs the machine once.
func boot(ctx context.Context, m machine, job Job) (Report, error) {
	limit := bootTime
	for _, t := range job.Tests {
		limit += t.timeout() + 2*afterTimeout
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := time.AfterFunc(limit, func() { cancel(fmt.Errorf("the guest did not end within %s", limit)) })
	defer over.Stop()
	silent := time.AfterFunc(bootTime, func() { cancel(fmt.Errorf("the guest did not come up within %s", bootTime)) })
	defer silent.Stop()

	console := &tail{most: consoleKept}
	l := newListener(job, func() { silent.Stop() })
	err := m.run(ctx, console, l.listen, func(r io.Reader) error { return unpackOut(job.Out, r) })
	l.report.Wall = time.Since(l.begun)
	l.report.Accel, _, _ = strings.Cut(m.accel, ",")
	if err := keepConsole(job.Out, console); err != nil {
		return l.report, err
	}
	if l.done && err == nil {
		return l.report, nil
	}
	text := strings.ReplaceAll(console.String(), "\r", "")
	return l.report, &GuestError{Why: why(context.Cause(ctx), err, l, text), Console: lastOf(text, consoleTold)}
}

// why says what became of a guest that did not do its work: what it said itself, what its kernel said, what the host did.
func why(cause, err error, l *listener, console string) string {
	for line := range strings.Lines(console) {
		for _, sign := range []string{"Out of memory", "Kernel panic", "BUG:"} {
			if at := strings.Index(line, sign); at >= 0 {
				return fmt.Sprintf("the guest's kernel gave up while %s: %s", l.doing, strings.TrimSpace(line[at:]))
			}
		}
	}
	switch {
	case l.problem != "":
		return fmt.Sprintf("the guest failed while %s: %s", l.doing, l.problem)
	case cause != nil:
		return fmt.Sprintf("the guest was stopped while %s: %v", l.doing, cause)
	case err != nil:
		return fmt.Sprintf("the guest ended while %s: %v", l.doing, err)
	}
	return fmt.Sprintf("the guest ended while %s", l.doing)
}

// lastOf is the end of a text, from the beginning of a line.
func lastOf(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	_, after, _ := strings.Cut(text, "\n")
	return after
}
