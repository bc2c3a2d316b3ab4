package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// testEvent is a line of go tool test2json; see its documentation.
type testEvent struct {
	Action  string
	Test    string
	Elapsed float64
	Output  string
}

// converter makes a Suite of what a test program writes, by go tool test2json, which ends with its
// input.
type converter struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan error
	suite Suite // to be read after close
}

func convert(t Tests, live io.Writer) (*converter, error) {
	c := &converter{cmd: exec.Command("go", "tool", "test2json", "-t", "-p", t.Package), ended: make(chan error, 1), suite: Suite{Tests: t}}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start go tool test2json: %w", err)
	}
	go func() { c.ended <- collect(&c.suite, out, live) }()
	return c, nil
}

func (c *converter) Write(b []byte) (int, error) { return c.in.Write(b) }

// close ends the input and waits until all of it is in the suite.
func (c *converter) close() error {
	return errors.Join(c.in.Close(), <-c.ended, c.cmd.Wait())
}

// collect reads the events of one test program to their end. A test that began and of whose end nothing was heard has
// failed: the program did not live to see it. Of a benchmark the end is told only if it failed or was skipped: the others ended well
// if the program came to its last word.
func collect(s *Suite, r io.Reader, live io.Writer) error {
	outputs := map[string]*strings.Builder{}
	output := func(test string) *strings.Builder {
		if outputs[test] == nil {
			outputs[test] = new(strings.Builder)
		}
		return outputs[test]
	}
	var begun []string
	came := false // to its last word
	d := json.NewDecoder(r)
	for {
		var e testEvent
		if err := d.Decode(&e); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("read the events of %s: %w", s.Tests.Package, err)
		}
		switch e.Action {
		case "run":
			begun = append(begun, e.Test)
		case "output":
			output(e.Test).WriteString(e.Output)
			came = came || e.Test == "" && (e.Output == "PASS\n" || e.Output == "FAIL\n")
			if _, err := io.WriteString(live, e.Output); err != nil {
				return err
			}
		case "pass", "fail", "skip":
			if e.Test == "" {
				continue // the whole program: its exit code says more
			}
			begun = slices.DeleteFunc(begun, func(test string) bool { return test == e.Test })
			s.Results = append(s.Results, Result{
				Name: e.Test, Outcome: Outcome(e.Action), Elapsed: time.Duration(e.Elapsed * float64(time.Second)), Output: output(e.Test).String(),
			})
		}
	}
	for _, test := range slices.Backward(begun) {
		outcome := Fail
		if came && strings.HasPrefix(test, "Benchmark") {
			outcome = Pass
		}
		s.Results = append(s.Results, Result{Name: test, Outcome: outcome, Output: output(test).String()})
	}
	s.Output = output("").String()
	return nil
}
