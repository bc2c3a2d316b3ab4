package blackbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

const (
	// disorder is how much later than the next one a packet may come, to be before it in the file.
	disorder = time.Second
	// maxJoined is how many triggers one recording tells: together they fit in one comment, which has 64 KiB at most.
	maxJoined = 50
	// lastWord is what is left of a file's size for why it ended.
	lastWord = 1 << 10
	// gone is the interface of packets of which it is not known any more.
	gone = "(gone)"
)

// A recording is a file that is being written.
type recording struct {
	listed api.Recording // its size: that of whole blocks on the disk
	dir    string
	most   int64 // bytes
	began  time.Time
	until  time.Time // it ends
	over   *time.Timer
	words  func(plane.Sample) string

	out        *counted
	w          *pcapgo.NgWriter
	interfaces map[string]int // numbers by name; 0, the director's: not written yet
	waiting    []packet       // for those before them, and for what is to be told of them
	told       int64          // bytes of what was given to w and of what waits, at most
	says       []string       // of triggers, for the next packet
	joined     int
}

// A packet is a sample with its comments.
type packet struct {
	plane.Sample
	comments []string
}

// counted is a file that knows how much was written to it.
type counted struct {
	*os.File
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.File.Write(b)
	c.n += int64(n)
	return n, err
}

// newRecording makes the file, with what is known from the beginning.
func newRecording(o Options, id string, t Trigger, now time.Time, most int64) (*recording, error) {
	at, err := began(id)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(o.Dir, id+ending+part), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	r := &recording{listed: api.Recording{ID: id, At: at, Trigger: t.Kind, Object: t.Object, Why: t.Why, Open: true},
		dir: o.Dir, most: most, began: now, until: now.Add(after), over: time.NewTimer(after), words: o.Words,
		out: &counted{File: f}, interfaces: map[string]int{}}
	first := ngInterface(director)
	first.Description, first.Comment = "what triggered this recording; no packet came in by it", t.Object
	app := fmt.Sprintf("tunneldirector %s (director %s)", line(o.Version, maxObject), line(o.Director, maxObject))
	r.w, err = pcapgo.NewNgWriterInterface(r.out, first, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: app, Comment: t.Why}})
	if err == nil {
		err = r.flush()
	}
	if err != nil {
		r.giveUp()
		return nil, err
	}
	r.told = r.out.n
	r.tell(t, now)
	return r, nil
}

// director is the first interface, and that of what no packet tells.
const director = "director"

func ngInterface(name string) pcapgo.NgInterface {
	return pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, SnapLength: plane.SampleBytes}
}

// tell has the next packet say what triggered.
func (r *recording) tell(t Trigger, now time.Time) {
	about := ""
	if t.Object != "" {
		about = " about " + t.Object
	}
	s := fmt.Sprintf("trigger %s%s at %s: %s", t.Kind, about, now.UTC().Format("15:04:05.000Z"), t.Why)
	if r.joined++; r.joined <= maxJoined && r.fits(optionBytes(s)) {
		r.says = append(r.says, s)
	}
}

// join makes a trigger a part of the recording, which goes on for longer.
func (r *recording) join(t Trigger, now time.Time) {
	r.tell(t, now)
	r.until = now.Add(after)
	if last := r.began.Add(longest); r.until.After(last) {
		r.until = last
	}
	r.over.Reset(r.until.Sub(now))
}

// optionBytes are those of a comment in the file, at most.
func optionBytes(s string) int64 { return int64(4 + len(s) + 3) }

// fits reserves bytes of the file, if there are as many.
func (r *recording) fits(n int64) bool {
	if r.told+n > r.most-lastWord {
		return false
	}
	r.told += n
	return true
}

// takeAll takes samples from before the trigger, by time: the last ones that fit in half of the file.
func (r *recording) takeAll(list []plane.Sample) {
	room, says := r.told+(r.most-r.told)/2, r.says
	r.says = nil
	for _, s := range slices.Backward(list) {
		if r.told > room || !r.take(s) {
			break
		}
	}
	slices.Reverse(r.waiting)
	r.says = says
}

// take has a sample written soon; false: the file is as large as it may be.
func (r *recording) take(s plane.Sample) bool {
	p := packet{Sample: s}
	if words := line(r.words(s), maxWhy); words != "" {
		p.comments = append(p.comments, words)
	}
	n := int64(32 + len(s.Head) + 3 + 4) // of the block, without its options
	for _, c := range p.comments {
		n += optionBytes(c)
	}
	_, known := r.interfaces[s.Interface]
	if !known {
		n += interfaceBytes + optionBytes(s.Interface)
	}
	if !r.fits(n) {
		return false
	}
	if !known {
		r.interfaces[s.Interface] = 0
	}
	p.comments = append(p.comments, r.says...)
	r.says = nil
	r.waiting = append(r.waiting, p)
	return true
}

// interfaceBytes are those of an interface's block without its name, at most.
const interfaceBytes = 64

// settle writes what no later sample comes before. The last one always waits: for what may have to be told of it.
func (r *recording) settle(now time.Time) error {
	slices.SortStableFunc(r.waiting, func(a, b packet) int { return byTime(a.Sample, b.Sample) })
	n := 0
	for n < len(r.waiting)-1 && r.waiting[n].At.Before(now.Add(-disorder)) {
		n++
	}
	return r.write(n)
}

// writeAll writes what waits.
func (r *recording) writeAll() error {
	slices.SortStableFunc(r.waiting, func(a, b packet) int { return byTime(a.Sample, b.Sample) })
	return r.write(len(r.waiting))
}

// write writes the first n that wait.
func (r *recording) write(n int) error {
	for i := range r.waiting[:n] {
		if err := r.packet(&r.waiting[i]); err != nil {
			return err
		}
		if i%64 == 63 { // what a disk takes before it is full stays
			if err := r.flush(); err != nil {
				return err
			}
		}
	}
	r.waiting = slices.Delete(r.waiting, 0, n)
	return r.flush()
}

func (r *recording) packet(p *packet) error {
	number := r.interfaces[p.Interface]
	if number == 0 {
		name := p.Interface
		if name == "" {
			name = gone
		}
		var err error
		if number, err = r.w.AddInterface(ngInterface(name)); err != nil {
			return err
		}
		r.interfaces[p.Interface] = number
	}
	ci := gopacket.CaptureInfo{Timestamp: p.At, CaptureLength: len(p.Head), Length: p.Length, InterfaceIndex: number}
	return r.w.WritePacketWithOptions(ci, p.Head, pcapgo.NgPacketOptions{Comments: p.comments})
}

// flush gives the disk what was written.
func (r *recording) flush() error {
	if err := r.w.Flush(); err != nil {
		return err
	}
	r.listed.Bytes = r.out.n
	return nil
}

// end completes the file. What no packet told the last one does, or an interface if there is no packet.
func (r *recording) end(why string) error {
	if n := r.joined - maxJoined; n > 0 {
		r.says = append(r.says, fmt.Sprintf("%d more triggers are not told", n))
	}
	if why != "" {
		r.says = append(r.says, "the recording ends early: "+why)
	}
	if len(r.says) > 0 && len(r.waiting) == 0 {
		last := ngInterface(director)
		last.Comment = strings.Join(r.says, "\n")
		if _, err := r.w.AddInterface(last); err != nil {
			return err
		}
	} else if len(r.says) > 0 {
		slices.SortStableFunc(r.waiting, func(a, b packet) int { return byTime(a.Sample, b.Sample) })
		last := &r.waiting[len(r.waiting)-1]
		last.comments = append(last.comments, r.says...)
	}
	if err := r.writeAll(); err != nil {
		return err
	}
	if err := r.out.Sync(); err != nil {
		return err
	}
	if err := r.out.Close(); err != nil {
		return err
	}
	return r.complete()
}

// complete gives the file its name.
func (r *recording) complete() error {
	r.over.Stop()
	path := filepath.Join(r.dir, r.listed.ID+ending)
	if err := os.Rename(path+part, path); err != nil {
		return err
	}
	r.listed.Open = false
	return nil
}

// giveUp ends a file that cannot be written: what whole blocks there are stay. It tells whether there are any.
func (r *recording) giveUp() bool {
	r.over.Stop()
	path := filepath.Join(r.dir, r.listed.ID+ending+part)
	if r.listed.Bytes == 0 {
		r.out.Close()
		os.Remove(path) // nothing to keep; one that stays is read at the next start
		return false
	}
	if os.Truncate(path, r.listed.Bytes) != nil { // then it ends within a packet
		r.listed.Bytes = r.out.n
	}
	r.out.Close() // it may be closed already
	return r.complete() == nil
}
