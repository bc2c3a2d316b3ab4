package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// What a query for packets may ask for.
const (
	MaxPackets    = 10_000
	MaxPacketsFor = 10 * time.Minute
)

type packetsInput struct {
	From     string `query:"from" maxLength:"100" doc:"source: an address, or a prefix like 203.0.113.0/24"`
	To       string `query:"to" maxLength:"100" doc:"destination: an address or a prefix"`
	Proto    string `query:"proto" maxLength:"20" doc:"esp, ah, gre, l2tp, ipip, udp, tcp, icmp, icmpv6 or a number, of the outermost IP header"`
	FromPort int    `query:"from_port" minimum:"1" maximum:"65535"`
	ToPort   int    `query:"to_port" minimum:"1" maximum:"65535"`
	Count    int    `query:"count" default:"10" minimum:"1" maximum:"10000" doc:"it ends after so many"`
	ForMS    int64  `query:"for_ms" default:"30000" minimum:"1" maximum:"600000" doc:"it ends after so many milliseconds"`
}

// A PacketLine is a packet, or how the watch stands: at its begin, as a sign of life, and at its end.
type PacketLine struct {
	Packet *SeenPacket `json:"packet,omitempty"`
	Page   *PacketPage `json:"page,omitempty"`
}

// Why a watch for packets ends.
const (
	PacketsCount    = "count"
	PacketsTime     = "time"
	PacketsStopping = "stopping"
	PacketsFailed   = "failed"
)

// A PacketPage is how a watch for packets stands. The last one says why it ends; its absence means that the answer was cut off.
type PacketPage struct {
	Director string   `json:"director" doc:"whose packets these are; each director sees its own"`
	Packets  int      `json:"packets" doc:"told so far"`
	End      string   `json:"end,omitempty" enum:"count,time,stopping,failed" doc:"why it ends; missing: it goes on. stopping: the director does"`
	Error    *Problem `json:"error,omitempty" doc:"why it failed"`
}

var errHungUp = errors.New("the client hung up")

// refusalTime is how long an answer is held back for a refusal, which comes at once and then is the answer's status. One that comes later
// stands in the last line.
const refusalTime = 200 * time.Millisecond

func (s *Server) watchPackets(ctx context.Context, in *packetsInput) (*huma.StreamResponse, error) {
	r, _ := requestOf(ctx)
	var told faults // none: checkPacketFilter went before
	w := packetFilter(r.URL.Query(), &told)
	t := &packetTeller{s: s, stop: stopping(ctx), count: in.Count, found: make(chan SeenPacket), ended: make(chan error, 1), page: PacketPage{Director: s.o.Name}}
	t.ctx, t.cancel = context.WithTimeout(ctx, time.Duration(in.ForMS)*time.Millisecond)
	go func() { t.ended <- s.o.BlackBox.Packets(t.ctx, callerOf(ctx).name, w, t.take) }()
	if err := t.refused(); err != nil {
		t.cancel()
		return nil, asProblem(err)
	}
	return &huma.StreamResponse{Body: func(huma.Context) {
		r, rw := requestOf(ctx)
		t.out = newAnswers(rw, r)
		err := errors.Join(t.tell(), t.out.close())
		s.o.Log.Info("packets watched", "token", callerOf(ctx).name, "query", clip(r.URL.RawQuery), "packets", t.page.Packets, "end", t.page.End, "error", err)
	}}, nil
}

// A packetTeller tells packets to one client. Its goroutine is the request's; the BlackBox hands it packets by take.
type packetTeller struct {
	s      *Server
	out    *answers
	ctx    context.Context // of the watch; it ends with the request, at the latest
	cancel context.CancelFunc
	stop   <-chan struct{}
	count  int
	found  chan SeenPacket
	ended  chan error
	first  []SeenPacket // that came while a refusal was waited for
	page   PacketPage
}

func (t *packetTeller) take(p SeenPacket) error {
	select {
	case t.found <- p:
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// refused waits a moment for the BlackBox to refuse the watch.
func (t *packetTeller) refused() error {
	wait := time.NewTimer(refusalTime)
	defer wait.Stop()
	select {
	case p := <-t.found:
		t.first = append(t.first, p)
	case err := <-t.ended:
		if err != nil && t.ctx.Err() == nil {
			return err
		}
		t.ended <- err
	case <-wait.C:
	}
	return nil
}

// tell tells packets, and how it stands, until the watch has ended; its error is that of telling.
func (t *packetTeller) tell() error {
	beat := time.NewTicker(t.s.o.Heartbeat)
	defer beat.Stop()
	err := t.line(PacketLine{Page: &t.page})
	for _, p := range t.first {
		err = errors.Join(err, t.packet(p))
	}
	for err == nil && t.page.End == "" {
		select {
		case p := <-t.found:
			err = t.packet(p)
		case <-beat.C:
			err = t.line(PacketLine{Page: &t.page})
		case <-t.stop:
			t.page.End = PacketsStopping
		case failed := <-t.ended:
			t.end(failed)
			t.ended <- nil
		}
	}
	t.cancel()
	<-t.ended // who reads the last line may watch again
	return errors.Join(err, t.line(PacketLine{Page: &t.page}))
}

// end says why the BlackBox tells no more.
func (t *packetTeller) end(failed error) {
	switch {
	case errors.Is(t.ctx.Err(), context.DeadlineExceeded):
		t.page.End = PacketsTime
	case t.ctx.Err() != nil:
		t.page.End, t.page.Error = PacketsFailed, asProblem(errHungUp)
	case failed != nil:
		t.page.End, t.page.Error = PacketsFailed, asProblem(failed)
	default:
		t.page.End = PacketsFailed
		t.page.Error = problem(http.StatusServiceUnavailable, kindUnavailable, "the data plane shows no more packets; ask again")
	}
}

func (t *packetTeller) packet(p SeenPacket) error {
	t.page.Packets++
	if t.page.Packets == t.count {
		t.page.End = PacketsCount
	}
	return t.line(PacketLine{Packet: &p})
}

// line is sent at once: somebody waits for it.
func (t *packetTeller) line(l PacketLine) error {
	return errors.Join(t.out.add(l), t.out.flush())
}
