package ca

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// RenewProtocol is the ALPN of renewals, on the listeners for streams of directors and of agents. The client sends one request
// (DER of PKCS #10), the server answers with the certificate in PEM or with why not, and closes:
//
//	frame = kind (1 byte: 'q', 'c', 'e')  length (4 bytes, big endian)  as many bytes
const RenewProtocol = "tunneldirector-renew/1"

const (
	frameRequest = 'q'
	frameChain   = 'c'
	frameRefusal = 'e'

	maxFrame  = 64 << 10
	wireLimit = 10 * time.Second // for all of it
)

// ErrAskAnother is the answer of a director without an authority.
var ErrAskAnother = errors.New("this director has no authority (cluster.authority in its file): ask another")

// A refusal is what the other end says why it does not certify.
type refusal string

func (r refusal) Error() string { return "the director refuses: " + string(r) }

// ServeRenewal answers one request on a connection whose handshake is done, by ServerConfig with RenewProtocol: it certifies
// who that proved, for as long as the certificate there was made for. The authority is named by its directory, and read now;
// "": there is none here. The error is for the log, and was told to the client too if it could be. c is not closed.
func ServeRenewal(ctx context.Context, c *tls.Conn, authority string) (Certificate, error) {
	defer limit(ctx, c)()
	peers := c.ConnectionState().PeerCertificates
	if len(peers) == 0 {
		return Certificate{}, errNoCertificate
	}
	request, err := receive(c, frameRequest)
	if err != nil {
		return Certificate{}, fmt.Errorf("read the request for a renewal: %w", err)
	}
	chain, err := []byte(nil), ErrAskAnother
	if authority != "" {
		chain, err = answer(authority, peers[0], request)
	}
	if err != nil {
		return Certificate{}, errors.Join(fmt.Errorf("renew a certificate: %w", err), send(c, frameRefusal, []byte(err.Error())))
	}
	list, err := Parse(chain)
	if err != nil {
		return Certificate{}, err
	}
	return list[0], send(c, frameChain, chain)
}

// AskRenewal has the other end of a connection, by ClientConfig with RenewProtocol, certify a request.
func AskRenewal(ctx context.Context, c net.Conn, request []byte) (chain []byte, err error) {
	defer limit(ctx, c)()
	if err := send(c, frameRequest, request); err != nil {
		return nil, err
	}
	return receive(c, frameChain)
}

// limit ends what is done with a connection when ctx or its time does. What it returns lets go of ctx; the time stays, since a
// connection carries one request.
func limit(ctx context.Context, c net.Conn) func() {
	_ = c.SetDeadline(time.Now().Add(wireLimit))
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

func send(c net.Conn, kind byte, data []byte) error {
	frame := append([]byte{kind}, binary.BigEndian.AppendUint32(nil, uint32(len(data)))...)
	_, err := c.Write(append(frame, data...))
	return err
}

// receive reads one frame. A refusal is an error.
func receive(r io.Reader, want byte) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	switch kind := head[0]; {
	case kind != want && (kind != frameRefusal || want != frameChain):
		return nil, fmt.Errorf("a frame of kind %q came, want %q", kind, want)
	case n > maxFrame:
		return nil, fmt.Errorf("a frame of %d bytes: at most %d", n, maxFrame)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	if head[0] == frameRefusal {
		return nil, refusal(data)
	}
	return data, nil
}
