package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Table is the nftables table, of family inet, that is ours.
const Table = "tunneldirector-agent"

// A clamp lowers the maximum segment size that forwarded TCP connections agree on; its value is that of IPv4, to which that of
// IPv6 is 20 bytes less. The kernel never raises one (nft_exthdr_tcp_set_eval in net/netfilter/nft_exthdr.c).
type clamp struct{}

func (clamp) key() string           { return "clamp" }
func (clamp) String() string        { return "nftables table inet " + Table + ", which clamps the MSS" }
func (clamp) object() bool          { return false }
func (clamp) same(a, b string) bool { return a == b }

// sign begins the comment of a rule, the value follows.
func sign(v6 bool) string { return "IPv" + number(v6) + ", MSS " }

func (clamp) read(*view) (string, error) {
	conn, err := nftables.New()
	if err != nil {
		return "", fmt.Errorf("open nftables: %w", err)
	}
	list, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if noTables(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("list tables of nftables: %w", err)
	}
	i := slices.IndexFunc(list, func(t *nftables.Table) bool { return t.Name == Table })
	if i < 0 {
		return "", nil
	}
	const unknown = "something else"
	first := ""
	rules, err := conn.GetRules(list[i], &nftables.Chain{Name: "forward"})
	if err != nil || len(rules) != 2 {
		return unknown, nil
	}
	for i, r := range rules {
		said, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		value, ok := strings.CutPrefix(said, sign(i == 1))
		if !ok || i == 1 && value != first {
			return unknown, nil
		}
		first = value
	}
	return first, nil
}

func noTables(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)
}

func (c clamp) write(v *view, value string) error {
	now, err := c.read(v)
	if err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
	if now != "" {
		conn.DelTable(t)
	}
	if value != "" {
		size, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("MSS %q: %w", value, err)
		}
		conn.AddTable(t)
		chain := conn.AddChain(&nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
			Priority: nftables.ChainPriorityMangle})
		for _, v6 := range []bool{false, true} {
			conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: clampExprs(size, v6),
				UserData: userdata.AppendString(nil, userdata.TypeComment, sign(v6)+value)})
		}
	}
	err = conn.Flush()
	if noTables(err) {
		return fmt.Errorf("%w: the kernel lacks nf_tables (or nft_exthdr); have no MSS set, or its modules loaded: %w", errors.ErrUnsupported, err)
	}
	return err
}

func clampExprs(size int, v6 bool) []expr.Any {
	proto := byte(unix.NFPROTO_IPV4)
	if v6 {
		proto, size = unix.NFPROTO_IPV6, size-20
	}
	const maxseg, syn, rst = 2, 0x02, 0x04
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{proto}},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | rst}, Xor: []byte{0}},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{syn}},
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, uint16(size))},
		&expr.Exthdr{SourceRegister: 1, Type: maxseg, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	}
}
