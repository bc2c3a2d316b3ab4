package blackbox

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"tunneldirector/director/api"
)

const (
	ending = ".pcapng"
	part   = ".part" // of a file that is being written
	stamp  = "20060102T150405Z"
	// mostFiles is how many recordings there are at most, however small.
	mostFiles = 1000
	// future is how far ahead of the clock a recording was made by a wrong clock.
	future = 24 * time.Hour
)

// idRE are ids: when, the kind of the trigger, and a number if that is not the first one of the second.
var idRE = regexp.MustCompile(`^(\d{8}T\d{6}Z)-(` + strings.Join(api.RecordingTriggers(), "|") + `)(?:-([2-9]|[1-9]\d{1,5}))?$`)

// began is the time in an id; the error is for what is none.
func began(id string) (time.Time, error) {
	if m := idRE.FindStringSubmatch(id); m != nil {
		if at, err := time.Parse(stamp, m[1]); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no id of a recording: %w", id, fs.ErrNotExist)
}

// files are the complete recordings of a directory, the oldest first.
type files struct {
	dir  string
	most int64 // bytes of all
	list []api.Recording
}

func (f *files) path(id string) string { return filepath.Join(f.dir, id+ending) }

// read takes what is in the directory; what was being written is complete then. Files that are not ours are left alone.
func (f *files) read() (torn []string, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, ours := strings.CutSuffix(strings.TrimSuffix(e.Name(), part), ending)
		if _, err := began(id); !ours || err != nil || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(e.Name(), part) {
			if info.Size() == 0 {
				if err := os.Remove(f.path(id) + part); err != nil {
					return nil, err
				}
				continue
			}
			if _, err := os.Lstat(f.path(id)); !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("%s%s is there beside a complete recording: move one of them away", f.path(id), part)
			}
			if err := os.Rename(f.path(id)+part, f.path(id)); err != nil {
				return nil, err
			}
			torn = append(torn, id)
		}
		f.list = append(f.list, f.describe(id, info.Size()))
	}
	f.sort()
	return torn, f.makeRoom("", 0, f.most)
}

// describe reads what a file says of itself.
func (f *files) describe(id string, size int64) api.Recording {
	at, _ := began(id) // it is one
	r := api.Recording{ID: id, At: at, Trigger: idRE.FindStringSubmatch(id)[2], Bytes: size}
	file, err := os.Open(f.path(id))
	if err == nil {
		defer file.Close()
		r.Why, r.Object, err = header(file)
	}
	if err != nil {
		r.Why = fmt.Sprintf("not known: the beginning of the file cannot be read: %v", err)
	}
	return r
}

// header reads why a recording began, and what it is about.
func header(file io.Reader) (why, object string, err error) {
	r, err := pcapgo.NewNgReader(bufio.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		return "", "", err
	}
	first, err := r.Interface(0)
	if err != nil {
		return "", "", err
	}
	return line(r.SectionInfo().Comment, maxWhy), line(first.Comment, maxObject), nil
}

// add takes one more.
func (f *files) add(r api.Recording) {
	f.list = append(f.list, r)
	f.sort()
}

func (f *files) sort() {
	slices.SortFunc(f.list, func(a, b api.Recording) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(number(a.ID), number(b.ID)), strings.Compare(a.ID, b.ID))
	})
}

// number is the last part of an id.
func number(id string) int {
	n, err := strconv.Atoi(idRE.FindStringSubmatch(id)[3])
	if err != nil {
		return 1
	}
	return n
}

// room deletes the oldest until there is room for one more, and gives its id.
func (f *files) room(kind string, now time.Time, size int64) (string, error) {
	first := now.UTC().Format(stamp) + "-" + kind
	id := first
	for n := 2; f.taken(id); n++ {
		id = fmt.Sprintf("%s-%d", first, n)
	}
	if kind == kindDrops { // which anybody outside can cause, and is not to push out what nobody else can
		if err := f.makeRoom(kind, size, f.most/2); err != nil {
			return id, err
		}
	}
	return id, f.makeRoom("", size, f.most)
}

func (f *files) taken(id string) bool {
	_, complete := os.Lstat(f.path(id))
	_, torn := os.Lstat(f.path(id) + part)
	return complete == nil || torn == nil
}

// makeRoom deletes the oldest, of a kind or ("") of all, until one more file, of that many bytes, is within most.
func (f *files) makeRoom(kind string, more, most int64) error {
	for {
		var of []int // by time
		size := more
		for i := range f.list {
			if kind == "" || f.list[i].Trigger == kind {
				of, size = append(of, i), size+f.list[i].Bytes
			}
		}
		if len(of) == 0 || size <= most && len(f.list) < mostFiles {
			return nil
		}
		i := f.oldest(of, time.Now())
		if err := os.Remove(f.path(f.list[i].ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make room for a recording: %w", err)
		}
		f.list = slices.Delete(f.list, i, i+1)
	}
}

// oldest is the one that goes first: of those that a wrong clock has put into the future, if there are any, since they would outlive all others.
func (f *files) oldest(of []int, now time.Time) int {
	i := slices.IndexFunc(of, func(i int) bool { return f.list[i].At.After(now.Add(future)) })
	return of[max(i, 0)]
}

// open opens a complete one.
func (f *files) open(id string) (io.ReadCloser, error) {
	i := slices.IndexFunc(f.list, func(r api.Recording) bool { return r.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("recording %q: %w", id, fs.ErrNotExist)
	}
	file, err := os.Open(f.path(id))
	if errors.Is(err, fs.ErrNotExist) { // somebody has deleted it
		f.list = slices.Delete(f.list, i, i+1)
	}
	if err != nil {
		return nil, fmt.Errorf("recording %q: %w", id, err)
	}
	return file, nil
}
