package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	suffix = ".ndjson"
	parts  = 32 // files that make up all of the size, or of the age
	// expireRest is the time between two deletions for age: a clock that is wrong does not empty the directory at once.
	expireRest = time.Hour
)

// A file is one of the journal's.
type file struct {
	number uint64
	size   int64
	last   time.Time // written
}

func (f file) path(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%010d%s", f.number, suffix))
}

// files are all, as who writes them knows them.
type files struct {
	dir     string
	maxSize int64
	maxAge  time.Duration

	list    []file // the oldest first; the last one is written to
	current *os.File
	begun   time.Time // when the last one was begun
	broken  bool      // the last one ends within a line
	expired time.Time // when one was last deleted for its age, or looking began
}

// openFiles goes on where the last run ended; torn: bytes of a line that it did not end.
func openFiles(dir string, maxSize int64, maxAge time.Duration, now time.Time) (*files, int64, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	list, err := listFiles(dir)
	if err != nil {
		return nil, 0, err
	}
	f := &files{dir: dir, maxSize: maxSize, maxAge: maxAge, list: list, expired: now}
	if len(list) == 0 {
		return f, 0, nil
	}
	last := list[len(list)-1]
	f.begun = firstTime(last.path(dir), last.last)
	torn, err := tornBytes(last.path(dir), last.size)
	if err != nil {
		return nil, 0, err
	}
	f.broken = torn > 0
	f.current, err = os.OpenFile(last.path(dir), os.O_WRONLY|os.O_APPEND, 0)
	return f, torn, err
}

// listFiles are those of a directory, the oldest first.
func listFiles(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []file
	for _, e := range entries {
		name, ours := strings.CutSuffix(e.Name(), suffix)
		n, err := strconv.ParseUint(name, 10, 64)
		if !ours || err != nil || len(name) != 10 {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, file{n, info.Size(), info.ModTime()})
	}
	slices.SortFunc(list, func(a, b file) int { return int(int64(a.number) - int64(b.number)) })
	return list, nil
}

// tornBytes is how long the end of a file is that is no line.
func tornBytes(path string, size int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	tail := make([]byte, min(size, 64<<10))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return int64(len(tail) - 1 - strings.LastIndexByte(string(tail), '\n')), nil
}

func (f *files) size() (sum int64) {
	for _, x := range f.list {
		sum += x.size
	}
	return sum
}

// write adds whole lines. After an error a part of them may be there.
func (f *files) write(lines []byte, now time.Time) error {
	f.makeRoom(int64(len(lines)))
	if err := f.begin(now); err != nil {
		return err
	}
	if f.broken {
		lines = append([]byte{'\n'}, lines...)
	}
	n, err := f.current.Write(lines)
	last := &f.list[len(f.list)-1]
	last.size, last.last = last.size+int64(n), now
	if n > 0 {
		f.broken = err != nil && lines[n-1] != '\n'
	}
	return err
}

// begin begins a new file if there is none, or the last one is complete.
func (f *files) begin(now time.Time) error {
	next := file{number: 1}
	if len(f.list) > 0 {
		last := f.list[len(f.list)-1]
		if f.current != nil && last.size < f.maxSize/parts && now.Sub(f.begun) < f.maxAge/parts {
			return nil
		}
		next.number = last.number + 1
	}
	if err := f.close(); err != nil {
		return err
	}
	current, err := os.OpenFile(next.path(f.dir), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.current, f.begun, f.broken, f.list = current, now, false, append(f.list, next)
	return nil
}

// close ends the last file; what is in it is on the disk then.
func (f *files) close() error {
	if f.current == nil {
		return nil
	}
	err := errors.Join(f.current.Sync(), f.current.Close())
	f.current = nil
	return err
}

// makeRoom deletes the oldest files until more bytes are within the size.
func (f *files) makeRoom(more int64) {
	for len(f.list) > 1 && f.size()+more > f.maxSize {
		if !f.deleteOldest() {
			return
		}
	}
}

// expire deletes the oldest file if it is too old.
func (f *files) expire(now time.Time) {
	if len(f.list) < 2 || now.Sub(f.expired) < expireRest {
		return
	}
	f.expired = now
	if now.Sub(f.list[0].last) > f.maxAge {
		f.deleteOldest()
	}
}

func (f *files) deleteOldest() bool {
	if err := os.Remove(f.list[0].path(f.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	f.list = f.list[1:]
	return true
}
