package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"tunneldirector/director/api"
)

const (
	singles = 400    // pushes, one after the other
	clients = 64     // at once
	extra   = 20_000 // tunnels beside the batch's that single pushes use; below what the tables have room for
)

// single measures one push against the full table, in turns with one synced transaction.
func (t *target) single(ctx context.Context, floor *floorStore) error {
	t.say("single pushes")
	count := singles
	if t.o.quick {
		count = 100
	}
	var push, put samples
	for i := range count {
		began := time.Now()
		if _, err := t.Client.PutTunnel(ctx, tunnel(t.n+i)); err != nil {
			return err
		}
		push = append(push, milliseconds(time.Since(began)))
		f, err := floor.put(t.n + i)
		if err != nil {
			return err
		}
		put = append(put, f)
	}
	median := over(t.name("single push"), "ms", one(push.median()), "synced badger transaction", one(put.median()))
	t.add(median.ratioAtMost(10))
	t.add(over(t.name("single push, p99"), "ms", push.p99(), "synced badger transaction, p99", put.p99()))
	return nil
}

// crowd measures many clients at once against one, in turns.
func (t *target) crowd(ctx context.Context) error {
	t.say("%d clients at once", clients)
	span := 1500 * time.Millisecond
	if t.o.quick {
		span = 500 * time.Millisecond
	}
	var alone, together samples
	for i := range t.o.rounds() {
		a, err := t.rate(ctx, 1, span, uint64(2*i+1))
		if err != nil {
			return err
		}
		b, err := t.rate(ctx, clients, span, uint64(2*i+2))
		if err != nil {
			return err
		}
		alone, together = append(alone, a), append(together, b)
	}
	t.add(against(t.name("64 clients"), "pushes/s", together, "one client", alone).ratioAtLeast(10))
	return nil
}

// rate is how many pushes a second so many clients get answered. Bandwidth makes each push of a round a change.
func (t *target) rate(ctx context.Context, clients int, span time.Duration, bandwidth uint64) (float64, error) {
	counts := make([]int, clients)
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for c := range clients {
		g.Go(func() error {
			client, err := dial(ctx, t.socket())
			if err != nil {
				return err
			}
			defer client.conn.Close()
			for i := c; time.Since(began) < span; i += clients {
				tunnel := tunnel(t.n + i%extra)
				tunnel.Bandwidth = bandwidth<<32 + uint64(i/extra)
				if err := client.put(tunnel); err != nil {
					return err
				}
				counts[c]++
			}
			return nil
		})
	}
	err := g.Wait()
	all := 0
	for _, n := range counts {
		all += n
	}
	return float64(all) / time.Since(began).Seconds(), err
}

// A thrifty is a client that takes so little of the processor, which it shares with the director, that many of them measure the
// director and not themselves.
type thrifty struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(ctx context.Context, socket string) (*thrifty, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		err = c.SetDeadline(end)
	}
	return &thrifty{c, bufio.NewReader(c)}, err
}

// put pushes a tunnel and waits for the answer.
func (c *thrifty) put(t api.Tunnel) error {
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.conn, "PUT /v1/tunnels/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		t.ID, len(body), body); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return fmt.Errorf("push %s: %w", t.ID, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("push %s: %s: %s", t.ID, res.Status, answer)
	}
	return err
}
