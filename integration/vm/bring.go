package vm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"tunneldirector/integration/vm/cpio"
	"tunneldirector/integration/vm/wire"
)

// afterTimeout is how long a test program has to say what it was doing when its time was over.
const afterTimeout = 15 * time.Second

// bring writes the file that the kernel unpacks: the image, and behind it the job with its files.
func bring(name, image, root string, job Job, p programs) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("bring the job into the guest: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("bring the job into the guest: %w", err)
		}
	}()
	base, err := os.Open(image)
	if err != nil {
		return err
	}
	defer base.Close()
	if _, err := io.Copy(f, base); err != nil {
		return err
	}
	buffer := bufio.NewWriterSize(f, 1<<20)
	w := cpio.NewWriter(buffer)
	if err := addJob(w, root, job, p); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return buffer.Flush()
}

func addJob(w *cpio.Writer, root string, job Job, p programs) error {
	files := map[string]string{"/init": p.init}
	for guest, host := range job.Files {
		files[guest] = host
	}
	if p.director != "" {
		files[directorAt], files[agentAt] = p.director, p.agent
	}
	var todo wire.Job
	for i, t := range job.Tests {
		files[testAt(p.tests[i])] = p.tests[i]
		todo.Programs = append(todo.Programs, program(t, p.tests[i], p.director != ""))
		if err := addTestdata(w, root, t.Package); err != nil {
			return err
		}
	}
	for guest, host := range files {
		info, err := os.Stat(host)
		if err != nil {
			return err
		}
		if err := put(w, guest, file{host: host, mode: info.Mode(), size: info.Size()}); err != nil {
			return err
		}
	}
	b, err := json.Marshal(todo)
	if err != nil {
		return err
	}
	return w.File(wire.JobFile, 0o644, int64(len(b)), bytes.NewReader(b))
}

const (
	directorAt = wire.Lab + "/director"
	agentAt    = wire.Lab + "/realserver"
)

// testAt is where a compiled test is in the guest, workingDir where it runs.
func testAt(host string) string      { return path.Join(wire.Lab, filepath.Base(host)) }
func workingDir(pkg string) string   { return path.Join(wire.Lab, "src", filepath.ToSlash(pkg)) }
func testdataOf(pkg string) string   { return path.Join(workingDir(pkg), "testdata") }
func seconds(d time.Duration) int    { return int((d + time.Second - 1) / time.Second) }
func flag(name, value string) string { return "-test." + name + "=" + value }

// program is the command line of tests in the guest.
func program(t Tests, compiled string, director bool) wire.Program {
	args := []string{testAt(compiled), flag("v", "test2json"), flag("timeout", t.timeout().String())}
	for _, f := range []struct{ name, value string }{{"run", t.Run}, {"skip", t.Skip}, {"bench", t.Bench}} {
		if f.value != "" {
			args = append(args, flag(f.name, f.value))
		}
	}
	env := []string{"CI=true", "TUNNELDIRECTOR_VM=1", "OUT=" + wire.Out}
	if director {
		env = append(env, "DIRECTOR="+directorAt, "REALSERVER="+agentAt)
	}
	return wire.Program{Args: args, Dir: workingDir(t.Package), Env: append(env, t.Env...), Seconds: seconds(t.timeout() + afterTimeout)}
}

// addTestdata brings the package's testdata to where its tests run.
func addTestdata(w *cpio.Writer, root, pkg string) error {
	if err := w.Dir(workingDir(pkg)); err != nil {
		return err
	}
	dir := filepath.Join(root, filepath.FromSlash(pkg), "testdata")
	err := filepath.WalkDir(dir, func(host string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, host)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return put(w, path.Join(testdataOf(pkg), filepath.ToSlash(rel)), file{host: host, mode: info.Mode(), size: info.Size()})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
