package wireguard

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// parse reads an answer of the configuration protocol up to its end, and calls f for every peer, which is good until f returns.
// Errors name lines and keys, never values: some are secret.
func parse(r io.Reader, f func(*peer)) (d device, err error) {
	s := bufio.NewScanner(bufio.NewReaderSize(r, 16<<10)) // the scanner reads no more at a time than a line may have
	s.Buffer(make([]byte, 0, 4096), 4096)
	var p peer
	var sec, nsec int64 // of its handshake
	line, peers := 0, 0
	give := func() {
		if sec > 0 || nsec > 0 {
			p.handshake = time.Unix(sec, nsec)
		}
		if peers > 0 {
			f(&p)
		}
	}
	for s.Scan() {
		line++
		key, value, ok := bytes.Cut(s.Bytes(), []byte{'='})
		if !ok {
			return device{}, fmt.Errorf("line %d of the answer is not key=value", line)
		}
		var err error
		switch string(key) {
		case "errno":
			give()
			return d, errno(string(value))
		case "public_key":
			give()
			p, sec, nsec, peers = peer{allowed: p.allowed[:0]}, 0, 0, peers+1
			err = parseKey(&p.key, value)
		case "last_handshake_time_sec":
			sec, err = strconv.ParseInt(string(value), 10, 64)
		case "last_handshake_time_nsec":
			nsec, err = strconv.ParseInt(string(value), 10, 64)
		case "listen_port":
			d.port, err = parseUint[uint16](value, 16)
		case "fwmark":
			d.mark, err = parseUint[uint32](value, 32)
		default:
			if peers > 0 {
				err = p.set(key, value)
			}
		}
		if err != nil {
			return device{}, fmt.Errorf("line %d of the answer: %s is malformed", line, key)
		}
	}
	if err := s.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return device{}, err
	} else if err != nil {
		return device{}, fmt.Errorf("line %d of the answer is too long", line+1)
	}
	return device{}, fmt.Errorf("the answer breaks off after %d lines: %w", line, io.ErrUnexpectedEOF)
}

// set takes one line about a peer. Lines that are not known are of a newer protocol.
func (p *peer) set(key, value []byte) (err error) {
	switch string(key) {
	case "preshared_key":
		return parseKey(&p.shared, value)
	case "endpoint":
		p.endpoint, err = netip.ParseAddrPort(string(value))
		p.endpoint = netip.AddrPortFrom(p.endpoint.Addr().Unmap(), p.endpoint.Port())
	case "allowed_ip":
		var a netip.Prefix
		a, err = netip.ParsePrefix(string(value))
		p.allowed = append(p.allowed, a)
	case "persistent_keepalive_interval":
		var n uint16
		n, err = parseUint[uint16](value, 16)
		p.keepalive = time.Duration(n) * time.Second
	case "rx_bytes":
		p.rx, err = parseUint[uint64](value, 64)
	case "tx_bytes":
		p.tx, err = parseUint[uint64](value, 64)
	}
	return err
}

func parseKey(to *wgtypes.Key, value []byte) error {
	if len(value) != 2*len(to) {
		return errors.New("not a key")
	}
	_, err := hex.Decode(to[:], value)
	return err
}

func parseUint[T uint16 | uint32 | uint64](value []byte, bits int) (T, error) {
	n, err := strconv.ParseUint(string(value), 10, bits)
	return T(n), err
}

// errno is the last line. wireguard-go writes it negative.
func errno(value string) error {
	n, err := strconv.ParseInt(value, 10, 16)
	switch {
	case err != nil:
		return errors.New("the answer's errno is malformed")
	case n == 0:
		return nil
	}
	return syscall.Errno(max(n, -n))
}
