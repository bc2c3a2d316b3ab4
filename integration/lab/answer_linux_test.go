package lab

import (
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// TestAnswersComeFromTheVIPAndBypassTheDirector: also those of a handshake that the real server begins by itself.
func TestAnswersComeFromTheVIPAndBypassTheDirector(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Sites: 2, RealServers: 2, IPv6: true})
	_, pinned := newStandin(t, l)
	ctx := within(t, 10*time.Second)
	if err := l.Establish(ctx); err != nil {
		t.Fatal(err)
	}
	before := transmitted(t, l.Director.Namespace, l.Director.Sites)
	const n = 50
	for _, s := range l.Sites {
		r := pinned[s]
		key := device.NoisePublicKey(r.config.peers[s.Index-1].key.Bytes())
		first, err := r.Peer(s)
		if err != nil || first.Endpoint.Addr() != s.Endpoint {
			t.Fatalf("%s at %s: got %+v (%v), want a peer at %s", s.Name, r.Name, first, err, s.Endpoint)
		}
		if err := r.wg.LookupPeer(key).SendHandshakeInitiation(true); err != nil {
			t.Fatal(err)
		}
		echoes, err := l.Ping(ctx, s.NS, s.Inside[0], l.Target.Inner.Addrs[0], 5*time.Millisecond, n)
		if err != nil || CountLost(echoes) != 0 {
			t.Errorf("%s: %d of %d lost: %v", s.Name, CountLost(echoes), n, err)
		}
		got, err := s.Peer()
		if want := netip.AddrPortFrom(s.VIP, WireGuardPort); err != nil || got.Endpoint != want {
			t.Errorf("%s heard answers from %s (%v), want %s", s.Name, got.Endpoint, err, want)
		}
		if got.RxBytes == 0 || got.LastHandshake.IsZero() {
			t.Errorf("%s: got %+v, want bytes received and a handshake", s.Name, got)
		}
	}
	if d := transmitted(t, l.Director.Namespace, l.Director.Sites) - before; d >= n {
		t.Errorf("the director sent %d packets towards the sites: answers must not pass it", d)
	}
}

func transmitted(t *testing.T, ns *Namespace, p Port) uint64 {
	t.Helper()
	link, err := ns.nl.LinkByName(p.Name)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Statistics.TxPackets
}
