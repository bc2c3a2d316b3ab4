package agents

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
)

// What VICI's packets and messages begin with (strongSwan, src/libcharon/plugins/vici/README.md).
const (
	commandRequest, commandResponse              = 0, 1
	eventRegister, eventUnregister, eventConfirm = 3, 4, 5
	eventTold                                    = 7

	sectionStart, sectionEnd, keyValue, listStart, listItem, listEnd = 1, 2, 3, 4, 5, 6
)

// A viciMessage is one in the making.
type viciMessage struct{ strings.Builder }

func (m *viciMessage) name(kind byte, name string) {
	m.WriteByte(kind)
	m.WriteByte(byte(len(name)))
	m.WriteString(name)
}

func (m *viciMessage) text(text string) {
	m.Write(binary.BigEndian.AppendUint16(nil, uint16(len(text))))
	m.WriteString(text)
}

func (m *viciMessage) values(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		m.name(keyValue, pairs[i])
		m.text(pairs[i+1])
	}
}

func (m *viciMessage) list(name string, items ...string) {
	m.name(listStart, name)
	for _, item := range items {
		m.WriteByte(listItem)
		m.text(item)
	}
	m.WriteByte(listEnd)
}

// viciSA is what charon tells of one tunnel.
func viciSA(i int) string {
	at, subnet := stranger(i)
	var m viciMessage
	m.name(sectionStart, "sites")
	m.values("uniqueid", fmt.Sprint(i+1), "version", "2", "state", "ESTABLISHED", "local-host", "192.0.2.10", "local-port", "4500", "local-id", "vip",
		"remote-host", at.Addr().String(), "remote-port", "4500", "remote-id", fmt.Sprintf("C=CH, O=example, CN=site-%05d.example", i),
		"initiator-spi", "0123456789abcdef", "responder-spi", "0123456789abcdef", "encr-alg", "AES_GCM_16", "encr-keysize", "128",
		"prf-alg", "PRF_HMAC_SHA2_256", "dh-group", "ECP_256", "established", "1000", "rekey-time", "10000")
	m.name(sectionStart, "child-sas")
	m.name(sectionStart, fmt.Sprintf("net-%d", i+1))
	m.values("name", "net", "uniqueid", fmt.Sprint(i+1), "reqid", fmt.Sprint(i+1), "state", "INSTALLED", "mode", "TUNNEL", "protocol", "ESP", "encap", "yes",
		"spi-in", fmt.Sprintf("%08x", 0xc0000000+i), "spi-out", fmt.Sprintf("%08x", 0xd0000000+i), "encr-alg", "AES_GCM_16", "encr-keysize", "128",
		"bytes-in", "123456", "packets-in", "1234", "use-in", "1", "bytes-out", "123456", "packets-out", "1234", "use-out", "1",
		"rekey-time", "2000", "life-time", "4000", "install-time", "900")
	m.list("local-ts", "192.0.2.128/25")
	m.list("remote-ts", subnet.String())
	for range 3 {
		m.WriteByte(sectionEnd)
	}
	return m.String()
}

// sayCharon answers on a charon's socket.
func sayCharon(c net.Conn, n int) {
	packet := func(to []byte, kind byte, name, message string) []byte {
		body := string(kind) + message
		if name != "" {
			body = string(kind) + string(byte(len(name))) + name + message
		}
		return append(binary.BigEndian.AppendUint32(to, uint32(len(body))), body...)
	}
	var list []byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c, body); err != nil || len(body) < 2 || len(body) < 2+int(body[1]) {
			return
		}
		var out []byte
		switch name := string(body[2 : 2+body[1]]); {
		case body[0] == eventRegister || body[0] == eventUnregister:
			out = packet(nil, eventConfirm, "", "")
		case name == "list-sas":
			if list == nil {
				for i := range n {
					list = packet(list, eventTold, "list-sa", viciSA(i))
				}
			}
			out = packet(list, commandResponse, "", "")
		default:
			out = packet(nil, commandResponse, "", "")
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}
