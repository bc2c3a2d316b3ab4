package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAudit(t *testing.T) {
	l := furnished()
	l.audit = func(_ context.Context, f func(Difference)) (AuditCounts, error) {
		for i := range 3 {
			f(Difference{Key: fmt.Sprint("key ", i), Want: "rs1", Have: "nothing"})
		}
		return AuditCounts{Equal: 7, Missing: 3}, nil
	}
	c, _ := serveUnix(t, l, Options{})
	for range 2 { // one after the other is fine
		var keys []string
		sum, err := c.Audit(t.Context(), func(line AuditLine) { keys = append(keys, line.Difference.Key) })
		if err != nil || sum.AuditCounts != (AuditCounts{Equal: 7, Missing: 3}) || sum.Differences() != 3 {
			t.Errorf("%+v, %v", sum, err)
		}
		if diff := cmp.Diff([]string{"key 0", "key 1", "key 2"}, keys); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAuditThatFails(t *testing.T) {
	l := furnished()
	l.audit = func(context.Context, func(Difference)) (AuditCounts, error) {
		return AuditCounts{Equal: 1}, errors.New("read the kernel: no")
	}
	c, _ := serveUnix(t, l, Options{})
	sum, err := c.Audit(t.Context(), func(AuditLine) {})
	if err == nil || !strings.Contains(err.Error(), "read the kernel: no") || sum.Complete || sum.Equal != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// One audit at a time; who hangs up, and a server that stops, end it.
func TestOneAuditAtATime(t *testing.T) {
	l := furnished()
	began := make(chan struct{})
	l.audit = func(ctx context.Context, f func(Difference)) (AuditCounts, error) {
		f(Difference{Key: "first"})
		began <- struct{}{}
		<-ctx.Done()
		return AuditCounts{}, ctx.Err()
	}
	c, stop := serveUnix(t, l, Options{})
	ended := make(chan error)
	start := func(ctx context.Context) {
		go func() {
			_, err := c.Audit(ctx, func(AuditLine) {})
			ended <- err
		}()
		<-began
	}
	ctx, cancel := context.WithCancel(t.Context())
	start(ctx)
	var p *Problem
	if _, err := c.Audit(t.Context(), func(AuditLine) {}); !errors.As(err, &p) || p.Status != http.StatusConflict {
		t.Errorf("a second audit: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that hung up: %v", err)
	}
	for { // the server takes a moment to notice
		go func() {
			_, err := c.Audit(t.Context(), func(AuditLine) {})
			ended <- err
		}()
		select {
		case <-began:
			go func() { _ = stop() }()
			if err := <-ended; err == nil || !strings.Contains(err.Error(), errStopping.Error()) {
				t.Errorf("when the server stopped: %v", err)
			}
			return
		case err := <-ended:
			if !errors.As(err, &p) || p.Status != http.StatusConflict {
				t.Fatal(err)
			}
		}
	}
}

func TestPlaneThatCannotBeLookedInto(t *testing.T) {
	c, _ := serveUnix(t, furnished(), Options{})
	var p *Problem
	if _, err := c.Audit(t.Context(), func(AuditLine) {}); !errors.As(err, &p) || p.Status != http.StatusNotImplemented || !strings.Contains(p.Detail, "cannot be compared") {
		t.Errorf("audit: %v", err)
	}
	if _, err := c.Pairs(t.Context()); !errors.As(err, &p) || p.Status != http.StatusNotImplemented {
		t.Errorf("pairs: %v", err)
	}
}

func TestPairs(t *testing.T) {
	l := furnished()
	l.pairs = []Pair{{Address4: "240.0.0.1", Address6: "fd00::1", Primary: "rs1", Backup: "rs2", Now: "rs2"}}
	c, _ := serveUnix(t, l, Options{})
	got, err := c.Pairs(t.Context())
	if diff := cmp.Diff(l.pairs, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
