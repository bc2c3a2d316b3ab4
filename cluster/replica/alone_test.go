package replica

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestRoundThatHangs: whoever begins a round and then says nothing of it holds up another's for some seconds only.
func TestRoundThatHangs(t *testing.T) {
	for _, name := range []string{"d0", "d9"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a := newDesk("d1")
				a.put(0, 100)
				n := w.start(a, 1)
				v := visit(t, n, name)
				heard := v.drain()
				begin := greeting(name)
				begin.Records = 7
				for _, m := range []message{begin, groups{}} {
					if err := v.write(m); err != nil {
						t.Fatal(err)
					}
				}
				over := make(chan struct{})
				go func() {
					for v.write(ping{}) == nil {
						select {
						case <-time.After(pingEvery):
						case <-over:
							return
						}
					}
				}()
				time.Sleep(time.Second)
				w.start(newDesk("d2"), 1)
				if took := w.await("equal tables", time.Minute, w.equal); took < 5*time.Second || took > 15*time.Second {
					t.Errorf("equal after %v", took)
				}
				close(over)
				v.conn.Close()
				for range heard {
				}
			})
		})
	}
}

// TestRoundsInACircle: directors that each begin a round with the next do not wait for one another until they give it up.
func TestRoundsInACircle(t *testing.T) {
	for _, tt := range []struct {
		name string
		step int // from who dials to who is dialled
	}{{"upwards", 1}, {"downwards", 2}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.local = func(d *desk) Local { return slow{d, 500 * time.Millisecond} }
				names := []string{"d1", "d2", "d3"}
				for i, from := range names {
					for j, to := range names {
						w.cut[[2]string{from, to}] = j != (i+tt.step)%3
					}
				}
				var nodes []*node
				for i, name := range names {
					d := newDesk(name)
					d.put(100*i, 100*i+100)
					n := w.start(d, 1)
					n.replica.comparing <- struct{}{} // as if a round were in progress, until all others wait
					nodes = append(nodes, n)
				}
				time.Sleep(yield + 2*time.Second)
				for _, n := range nodes {
					<-n.replica.comparing
				}
				if took := w.await("equal tables", 2*time.Minute, w.equal); took > 4*time.Second {
					t.Errorf("equal after %v", took)
				}
			})
		})
	}
}
