package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Recordings lists what a director has recorded of dropped packets.
func (c *Client) Recordings(ctx context.Context) (RecordingList, error) {
	return call[RecordingList](ctx, c, http.MethodGet, "/v1/blackbox", nil, nil)
}

// Record begins a recording now, or has the one that goes on be about this, too; why may be "".
func (c *Client) Record(ctx context.Context, why string) (Recording, error) {
	return call[Recording](ctx, c, http.MethodPost, "/v1/blackbox", nil, RecordRequest{Why: why})
}

// Recording opens the file of a recording, pcapng; the caller closes it. Reading fails if it is cut off.
func (c *Client) Recording(ctx context.Context, id string) (io.ReadCloser, error) {
	res, err := c.send(ctx, http.MethodGet, "/v1/blackbox/"+url.PathEscape(id), nil, "", nil)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// A PacketQuery says which packets to tell of. What is zero fits all, or is the director's default.
type PacketQuery struct {
	From, To         string // address or prefix
	Proto            string
	FromPort, ToPort uint16
	Count            int           // it ends after so many, up to MaxPackets
	For              time.Duration // it ends after so long, up to MaxPacketsFor; whole milliseconds
}

func (q *PacketQuery) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"from": q.From, "to": q.To, "proto": q.Proto, "from_port": port(q.FromPort), "to_port": port(q.ToPort)} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Count != 0 {
		v.Set("count", strconv.Itoa(q.Count))
	}
	if q.For != 0 {
		v.Set("for_ms", strconv.FormatInt(q.For.Milliseconds(), 10))
	}
	return v
}

var errPacketsCut = errors.New("the director's answer was cut off; watch again")

// Packets yields packets that fit, as they come in at a director, and how the watch stands: first, when it has begun, as a sign of life,
// and at its end. An error ends it.
func (c *Client) Packets(ctx context.Context, q PacketQuery) iter.Seq2[PacketLine, error] {
	return func(yield func(PacketLine, error) bool) {
		res, err := c.send(ctx, http.MethodGet, "/v1/packets", q.values(), "", nil)
		if err != nil {
			yield(PacketLine{}, err)
			return
		}
		defer res.Body.Close()
		whole, stopped := false, false
		err = eachLine(res.Body, func(l PacketLine) {
			if stopped {
				return
			}
			failed := error(nil)
			if l.Page != nil {
				whole = whole || l.Page.End != ""
				if l.Page.Error != nil {
					failed = l.Page.Error
				}
			}
			if !yield(l, failed) || failed != nil {
				stopped = true
				_ = res.Body.Close() // more may come
			}
		})
		switch {
		case stopped, whole:
		case ctx.Err() != nil:
			yield(PacketLine{}, ctx.Err())
		case err != nil:
			yield(PacketLine{}, fmt.Errorf("read packets: %w", err))
		default:
			yield(PacketLine{}, errPacketsCut)
		}
	}
}
