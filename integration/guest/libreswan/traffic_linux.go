package libreswan

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// A Traffic is what a tunnel has carried.
type Traffic struct {
	Connection string
	SA         int // number of the Child SA in this pluto
	In, Out    uint64
}

// 006 #2: "site-001"[1] 203.0.113.11, type=ESP, add_time=1637470, inBytes=252, outBytes=252, maxBytes=2^63B, id='@site-001'
var trafficLine = regexp.MustCompile(`#(\d+): "([^"]+)".*inBytes=(\d+), outBytes=(\d+)`)

// Traffic is what each tunnel that is up has carried, in bytes.
func (d *Daemon) Traffic(ctx context.Context) ([]Traffic, error) {
	out, err := d.whack(ctx, "--trafficstatus")
	if err != nil {
		return nil, err
	}
	return parseTraffic(out)
}

func parseTraffic(out string) ([]Traffic, error) {
	var all []Traffic
	for _, m := range trafficLine.FindAllStringSubmatch(out, -1) {
		t := Traffic{Connection: m[2]}
		var err error
		if t.SA, err = strconv.Atoi(m[1]); err != nil {
			return nil, fmt.Errorf("read %q: %w", m[0], err)
		}
		for i, v := range []*uint64{&t.In, &t.Out} {
			if *v, err = strconv.ParseUint(m[3+i], 10, 64); err != nil {
				return nil, fmt.Errorf("read %q: %w", m[0], err)
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// 006 #1: "vip":500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 28000s; newest; idle;
var stateLine = regexp.MustCompile(`#(\d+): "([^"]+)".*STATE_V2_ESTABLISHED_IKE_SA`)

// IKE is the number of a connection's newest IKE SA in this pluto; 0: none.
func (d *Daemon) IKE(ctx context.Context, connection string) (int, error) {
	out, err := d.whack(ctx, "--showstates")
	if err != nil {
		return 0, err
	}
	return parseIKE(out, connection)
}

func parseIKE(out, connection string) (newest int, err error) {
	for _, m := range stateLine.FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return 0, fmt.Errorf("read %q: %w", m[0], err)
		}
		if m[2] == connection {
			newest = max(newest, n)
		}
	}
	return newest, nil
}

// RekeyChild makes new keys for a tunnel's packets.
func (d *Daemon) RekeyChild(ctx context.Context, connection string) error {
	_, err := d.whack(ctx, "--rekey-ipsec", "--name", connection, "--asynchronous")
	return err
}

// RekeyIKE makes new keys for a tunnel's control channel.
func (d *Daemon) RekeyIKE(ctx context.Context, connection string) error {
	_, err := d.whack(ctx, "--rekey-ike", "--name", connection, "--asynchronous")
	return err
}

// Terminate ends a connection's tunnel; the peer is told.
func (d *Daemon) Terminate(ctx context.Context, connection string) error {
	_, err := d.whack(ctx, "--terminate", "--name", connection, "--asynchronous")
	return err
}
