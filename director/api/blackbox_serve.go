package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// pcapngType is the media type of a recording. None is registered for pcapng; this is what others call it, too.
const pcapngType = "application/x-pcapng"

func (s *Server) registerBlackBox() {
	if s.o.BlackBox == nil {
		return
	}
	register(s, op{id: "list-recordings", method: http.MethodGet, path: "/v1/blackbox", needs: needsRead,
		summary: "The recordings of dropped packets on this director's disk, and what it keeps in memory for the next one"}, s.listRecordings)
	register(s, op{id: "record", method: http.MethodPost, path: "/v1/blackbox", needs: needsDrill, body: RecordRequest{}, optional: true,
		summary: "Write down now what is kept of dropped packets, and what is dropped in the next seconds"}, s.record)
	register(s, op{id: "get-recording", method: http.MethodGet, path: "/v1/blackbox/{id}", needs: needsOperator, answerType: pcapngType,
		summary: "The file of a recording, as pcapng. It has the beginnings of packets; of one that is being written, what there is"}, s.getRecording)
	register(s, op{id: "watch-packets", method: http.MethodGet, path: "/v1/packets", needs: needsOperator, query: checkPacketFilter,
		answer: PacketLine{}, answerType: "application/x-ndjson",
		summary: "Packets that fit, as they come in, and what the data plane does with each. It has their beginnings. One watcher at a time"}, s.watchPackets)
}

type recordingListOutput struct{ Body RecordingList }

func (s *Server) listRecordings(context.Context, *struct{}) (*recordingListOutput, error) {
	l, err := s.o.BlackBox.Recordings()
	if err != nil {
		return nil, asProblem(err)
	}
	if l.Director == "" {
		l.Director = s.o.Name
	}
	fillList(&l.Recordings)
	fillList(&l.Kept)
	return &recordingListOutput{l}, nil
}

// A RecordRequest asks for a recording.
type RecordRequest struct {
	Why string `json:"why,omitempty" maxLength:"300" doc:"what for, in one line; the file says so"`
}

const maxWhy = 300 // characters

func (r *RecordRequest) check() *Problem {
	var f faults
	if n := utf8.RuneCountInString(r.Why); n > maxWhy {
		f.add("why", clip(r.Why), fmt.Sprintf("has %d characters", n), fmt.Sprintf("at most %d", maxWhy))
	}
	if strings.ContainsFunc(r.Why, unicode.IsControl) {
		f.add("why", fmt.Sprintf("%.200q", r.Why), "has a control character", "plain words in one line")
	}
	return f.problem("the request")
}

type recordingOutput struct{ Body Recording }

func (s *Server) record(ctx context.Context, _ *struct{}) (*recordingOutput, error) {
	var r RecordRequest
	if _, err := readOptional(ctx, &r); err != nil {
		return nil, err
	}
	if p := r.check(); p != nil {
		return nil, p
	}
	rec, err := s.o.BlackBox.Record(ctx, callerOf(ctx).name, r.Why)
	if err != nil {
		return nil, asProblem(err)
	}
	return &recordingOutput{rec}, nil
}

type recordingPath struct {
	ID string `path:"id" maxLength:"128"`
}

func (s *Server) getRecording(ctx context.Context, in *recordingPath) (*huma.StreamResponse, error) {
	file, err := s.o.BlackBox.Recording(in.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem(http.StatusNotFound, kindNotFound, fmt.Sprintf("no recording %q", clip(in.ID)),
			FieldError{Field: "id", Value: clip(in.ID), Problem: "is no recording of this director", Remedy: "GET /v1/blackbox lists them; each director has its own, and the oldest go first"})
	}
	if err != nil {
		return nil, asProblem(err)
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		defer file.Close()
		_, w := requestOf(ctx)
		w.Header().Set("Content-Type", pcapngType)
		w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": in.ID + ".pcapng"}))
		n, err := io.Copy(newPatient(w), file)
		s.o.Log.Info("recording read", "token", callerOf(ctx).name, "id", in.ID, "bytes", n, "error", err)
		if err != nil {
			panic(http.ErrAbortHandler) // a part must not be taken for the whole
		}
	}}, nil
}

// A patient writer gives a client that reads slowly time for each piece, and one that does not read none for ever.
type patient struct {
	w  io.Writer
	rc *http.ResponseController
}

func newPatient(w http.ResponseWriter) patient { return patient{w, http.NewResponseController(w)} }

// Write sends a piece.
func (p patient) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // a recorder has none
	defer func() { _ = p.rc.SetWriteDeadline(time.Time{}) }()
	return p.w.Write(b)
}
