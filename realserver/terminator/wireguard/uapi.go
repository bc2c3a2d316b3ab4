package wireguard

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"tunneldirector/realserver/terminator"
)

// patience bounds a question whose context does not.
const patience = 10 * time.Second

// maxAnswer bounds an answer: 50,000 peers with 256 addresses take less.
const maxAnswer = 512 << 20

// uapi is a device in user space by its configuration protocol (https://www.wireguard.com/xplatform/). wgctrl speaks it too,
// but waits forever for a socket that does not answer, and knows one directory of sockets only.
type uapi struct {
	socket string
}

// ask sends a request and hands the answer to f.
func (u uapi) ask(ctx context.Context, request []byte, f func(*net.UnixConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", u.socket)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%w: %w", err, terminator.ErrGone)
		}
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err = c.Write(request); err == nil {
		err = f(c.(*net.UnixConn))
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%s: %w", u.socket, context.Cause(ctx)) // and not that a deadline passed which nobody asked for
	}
	if err != nil {
		return fmt.Errorf("%s: %w", u.socket, err)
	}
	return nil
}

func (u uapi) each(ctx context.Context, f func(*peer)) (device, error) {
	var d device
	err := u.ask(ctx, []byte("get=1\n\n"), func(c *net.UnixConn) (err error) {
		d, err = parse(io.LimitReader(c, maxAnswer), f)
		return err
	})
	return d, err
}

func (u uapi) anew(ctx context.Context, p peer, begin bool) error {
	return u.ask(ctx, request(p, begin), func(c *net.UnixConn) error {
		_, err := parse(io.LimitReader(c, maxAnswer), func(*peer) {})
		return err
	})
}

func (u uapi) processes(ctx context.Context) ([]int, error) {
	var pids []int
	err := u.ask(ctx, nil, func(c *net.UnixConn) (err error) {
		pids, err = listener(c)
		return err
	})
	return pids, err
}

// request is what makes a peer anew.
func request(p peer, begin bool) []byte {
	var b bytes.Buffer
	key := hex.EncodeToString(p.key[:])
	keepalive := p.keepalive
	if begin && keepalive == 0 {
		keepalive = nudge
	}
	fmt.Fprintf(&b, "set=1\npublic_key=%s\nremove=true\npublic_key=%s\n", key, key)
	if p.shared != (wgtypes.Key{}) {
		fmt.Fprintf(&b, "preshared_key=%s\n", hex.EncodeToString(p.shared[:]))
	}
	if p.endpoint.IsValid() {
		fmt.Fprintf(&b, "endpoint=%s\n", p.endpoint)
	}
	fmt.Fprintf(&b, "persistent_keepalive_interval=%d\nreplace_allowed_ips=true\n", int(keepalive/time.Second))
	for _, a := range p.allowed {
		fmt.Fprintf(&b, "allowed_ip=%s\n", a)
	}
	if keepalive != p.keepalive {
		fmt.Fprintf(&b, "public_key=%s\nupdate_only=true\npersistent_keepalive_interval=%d\n", key, int(p.keepalive/time.Second))
	}
	b.WriteByte('\n')
	return b.Bytes()
}
