package place

import (
	"testing"

	"tunneldirector/affinity"
)

// However many tunnels there are, a primary has few different backups, and their death still spreads over those.
func TestFewPartners(t *testing.T) {
	const servers = 200
	w := newWorld(make([]Server, servers)...)
	for range servers * 100 {
		d := Demand{Load: tunnels(1, 1e6)}
		c, err := Choose(w.view(), d)
		if err != nil {
			t.Fatal(err)
		}
		if c.Backup == 0 {
			t.Fatal("a group without a backup")
		}
		w.pin(c, d.Load)
	}
	most := MaxPairs / servers
	for i := range w.servers {
		p := &w.servers[i]
		n, largest := 0, uint32(0)
		for j := range w.servers {
			if l := w.pair(p.Index, w.servers[j].Index); l.Tunnels > 0 {
				n++
				largest = max(largest, uint32(l.Tunnels))
			}
		}
		if n > most {
			t.Fatalf("%s has %d different backups, want at most %d", p.Name, n, most)
		}
		if total := uint32(p.Load.Tunnels); largest*uint32(most) > 2*total {
			t.Errorf("%s: one backup has %d of %d tunnels", p.Name, largest, total)
		}
	}
}

// A drained or dead partner does not keep a group from having a backup.
func TestPartnersThatAreOfNoUse(t *testing.T) {
	const servers = 200
	w := newWorld(make([]Server, servers)...)
	for j := range MaxPairs/servers + 3 { // the first real server's partners: all dead
		w.pairs[[2]affinity.Index{1, affinity.Index(j + 2)}] = tunnels(1, 1e6)
		w.server(affinity.Index(j + 2)).Alive = false
	}
	b, note := ChooseBackup(w.view(), Demand{Load: tunnels(1, 1e6)}, 1)
	if b == 0 || !w.server(b).Alive {
		t.Errorf("backup %d (%s), want one that lives", b, note)
	}
}
