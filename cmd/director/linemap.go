package main

import (
	"slices"
	"sync"
)

// A lineMap knows which line of a file became which line of a request. One goroutine adds while another asks. It keeps
// only where the two begin to differ by something else.
type lineMap struct {
	mu   sync.Mutex // guards what follows
	sent int
	runs []lineRun
}

type lineRun struct{ sent, file int }

// add says that a line of the file is sent next.
func (m *lineMap) add(file int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent++
	if n := len(m.runs); n == 0 || m.runs[n-1].file-m.runs[n-1].sent != file-m.sent {
		m.runs = append(m.runs, lineRun{m.sent, file})
	}
}

// skip says that a line of the request is not of the file.
func (m *lineMap) skip() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent++
}

// file is the line of the file that a line of the request was; 0: of none.
func (m *lineMap) file(sent int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := slices.BinarySearchFunc(m.runs, sent, func(r lineRun, want int) int { return r.sent - want })
	if !found {
		i--
	}
	if i < 0 || sent > m.sent {
		return 0
	}
	return m.runs[i].file + sent - m.runs[i].sent
}
