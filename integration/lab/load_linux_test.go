package lab

import (
	"testing"
	"time"
)

// TestTwentySitesAtOnce is the demonstration's load: twenty sites, a request each 20 ms.
func TestTwentySitesAtOnce(t *testing.T) {
	l := newLab(t, Options{Sites: 20, SiteNamespaces: 4, IPv6: true})
	newStandin(t, l)
	ctx := within(t, 15*time.Second)
	if err := l.Establish(ctx); err != nil {
		t.Fatal(err)
	}
	const n = 50
	var pingers []*Pinger
	for i, s := range l.Sites {
		family := i / 2 % 2 // inside a tunnel of either outer family
		p, err := l.StartPing(ctx, s.NS, s.Inside[family], l.Target.Inner.Addrs[family], 20*time.Millisecond, n)
		if err != nil {
			t.Fatal(err)
		}
		pingers = append(pingers, p)
	}
	for i, p := range pingers {
		<-p.Done()
		echoes, err := p.Stop()
		if err != nil {
			t.Errorf("%s: %v", l.Sites[i].Name, err)
		}
		if len(echoes) != n || CountLost(echoes) != 0 || p.Received() != n {
			t.Errorf("%s: %d requests, %d answers, %d lost", l.Sites[i].Name, len(echoes), p.Received(), CountLost(echoes))
		}
	}
}
