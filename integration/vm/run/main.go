// Command run runs the tests of one or more packages in a virtual machine with Debian's kernel; see package vm.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"tunneldirector/integration/vm"
)

const description = `The first run downloads some 100 MB of Debian packages, which are unpacked into build/vm, not installed.
Root is not needed. A later run takes some seconds more than compiling and the tests do.

Examples:
  go run ./integration/vm/run -package ./director/plane/xdp -run TestPlane
  go run ./integration/vm/run -package ./integration/guest -director -m 1536 -timeout 10m -env SOAK=1 -out /tmp/out
  go run ./integration/vm/run -package ./director/plane/ipvs/inject -run '^$' -bench .

In the guest a test finds CI=true, TUNNELDIRECTOR_VM=1, its package's testdata, OUT=/out (what it leaves there comes to the
host by -out), with -director the program's path in DIRECTOR, and nothing that was there before: no interface but lo.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &cli.App{
		Name:            "run",
		Usage:           "run Go tests on Debian's kernel in a virtual machine",
		UsageText:       "go run ./integration/vm/run -package PACKAGE [options]",
		Description:     description,
		HideHelpCommand: true,
		Flags:           flags(),
		Action:          run,
	}
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "package", Aliases: []string{"p"}, Usage: "package from the module's root, as for go test; may be given again", Required: true},
		&cli.StringFlag{Name: "run", Usage: "run only tests that match, as for go test"},
		&cli.StringFlag{Name: "skip", Usage: "do not run tests that match"},
		&cli.StringFlag{Name: "bench", Usage: "run benchmarks that match"},
		&cli.StringSliceFlag{Name: "env", Usage: "NAME=value for the tests; may be given again"},
		&cli.StringSliceFlag{Name: "file", Usage: "GUEST=HOST: bring a file of the host to a path of the guest; may be given again"},
		&cli.BoolFlag{Name: "director", Usage: "bring the director along"},
		&cli.StringSliceFlag{Name: "debs", Usage: "Debian packages besides what a guest has anyway"},
		&cli.StringFlag{Name: "kernel", Usage: "cloud, or full for PPP", Value: "cloud"},
		&cli.IntFlag{Name: "m", Usage: "the guest's memory in MB", Value: vm.DefaultMemory},
		&cli.IntFlag{Name: "smp", Usage: "its processors", Value: vm.DefaultCPUs},
		&cli.DurationFlag{Name: "timeout", Usage: "for the tests of one package", Value: vm.DefaultTimeout},
		&cli.StringFlag{Name: "out", Usage: "directory for what tests leave in /out, and for the console"},
	}
}

func run(c *cli.Context) error {
	job, err := jobOf(c)
	if err != nil {
		return err
	}
	report, err := vm.Run(c.Context, job)
	for _, s := range report.Suites {
		fmt.Println(summary(s))
	}
	if err != nil {
		return err
	}
	fmt.Printf("kernel %s by %s: up after %.1f s, off after %.1f s\n", report.Release, report.Accel, report.Boot.Seconds(), report.Wall.Seconds())
	for _, s := range report.Suites {
		if s.Failed() {
			return errors.New("not all is well")
		}
	}
	return nil
}

func jobOf(c *cli.Context) (vm.Job, error) {
	kernel, ok := map[string]vm.Kernel{"cloud": vm.Cloud, "full": vm.Full}[c.String("kernel")]
	if !ok {
		return vm.Job{}, fmt.Errorf("-kernel %s: there are cloud and full", c.String("kernel"))
	}
	if c.NArg() > 0 {
		return vm.Job{}, fmt.Errorf("%q is no option", c.Args().First())
	}
	job := vm.Job{
		Kernel: kernel, Packages: c.StringSlice("debs"), Memory: c.Int("m"), CPUs: c.Int("smp"), Director: c.Bool("director"), Out: c.String("out"),
		Live: os.Stdout, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Files: map[string]string{},
	}
	for _, f := range c.StringSlice("file") {
		guest, host, ok := strings.Cut(f, "=")
		if !ok || !strings.HasPrefix(guest, "/") {
			return vm.Job{}, fmt.Errorf("-file %s: want /path/in/the/guest=file", f)
		}
		job.Files[guest] = host
	}
	for _, p := range c.StringSlice("package") {
		job.Tests = append(job.Tests, vm.Tests{
			Package: p, Run: c.String("run"), Skip: c.String("skip"), Bench: c.String("bench"), Env: c.StringSlice("env"), Timeout: c.Duration("timeout"),
		})
	}
	return job, nil
}

// summary is a line on what became of a package's tests.
func summary(s vm.Suite) string {
	count := map[vm.Outcome]int{}
	for _, r := range s.Results {
		count[r.Outcome]++
	}
	line := fmt.Sprintf("%s: %d passed, %d failed, %d skipped, exit code %d, %.1f s", s.Tests.Package, count[vm.Pass], count[vm.Fail], count[vm.Skip], s.Code, s.Wall.Round(time.Millisecond).Seconds())
	if s.Problem != "" {
		line += ": " + s.Problem
	}
	return line
}
