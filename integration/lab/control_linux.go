package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// controlSocket is where a real server's WireGuard is asked and configured, as processes on its machine see it.
const controlSocket = "/run/wireguard/wg0.sock"

// serveControl answers WireGuard's configuration protocol on a unix socket, as the program does, until stop.
func (r *RealServer) serveControl() error {
	path := filepath.Join(r.NS.RunDir(), "wireguard", "wg0.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("serve WireGuard's configuration at %s: %w", r.Name, err)
	}
	r.control = l
	wg := r.wg
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				r.gate.pass()
				wg.IpcHandle(c)
			}()
		}
	}()
	return nil
}

// Control is the socket of a real server's WireGuard, as its processes see it.
func (r *RealServer) Control() string { return controlSocket }

// KillTerminator ends a real server's WireGuard: its sessions and its device are gone, the host goes on.
func (r *RealServer) KillTerminator() { r.stop() }

// StartTerminator starts it anew, without any session.
func (r *RealServer) StartTerminator() error { return r.start() }

// HangTerminator lets a real server's WireGuard hang, as a process that is stopped: what it reads and sends, and its configuration
// socket, wait until ResumeTerminator or its end. Its timers run on, since it is no process of its own.
func (r *RealServer) HangTerminator() { r.gate.shut() }

// ResumeTerminator lets it go on, with what waits in its sockets.
func (r *RealServer) ResumeTerminator() { r.gate.open() }
