package conntab

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
)

// Read goes over the table of the network namespace of the calling thread, from which it may move on once the iteration has
// begun. It ends with an error, the first that it meets; fs.ErrNotExist is wrapped where there is no IPVS.
func Read() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		runtime.LockOSThread()
		f, err := os.Open("/proc/thread-self/net/ip_vs_conn_sync")
		runtime.UnlockOSThread()
		if err != nil {
			yield(Entry{}, fmt.Errorf("open the IPVS connection table: %w", err))
			return
		}
		defer f.Close()
		parse(f, yield)
	}
}

func parse(from io.Reader, yield func(Entry, error) bool) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte("Pro ")) {
			continue
		}
		e, err := parseLine(lines.Bytes())
		if !yield(e, err) || err != nil {
			return
		}
	}
	if err := lines.Err(); err != nil {
		yield(Entry{}, fmt.Errorf("read the IPVS connection table: %w", err))
	}
}
