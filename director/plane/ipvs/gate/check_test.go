package gate

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestCheck(t *testing.T) {
	const vs = "proc/sys/net/ipv4/vs/"
	tests := []struct {
		name, path, value string
		entries           int
		what, remedy      string
	}{
		{"nothing", "", "", 8192, "", ""},
		{"no daemon may run", vs + "backup_only", "1", 1, "backup_only = 1", "sysctl -w net.ipv4.vs.backup_only=0"},
		{"pins at random", vs + "drop_entry", "3", 1, "drop_entry = 3", "sysctl -w net.ipv4.vs.drop_entry=0"},
		{"tracked by IPVS", vs + "conntrack", "1", 1, "vs.conntrack = 1", "sysctl -w net.ipv4.vs.conntrack=0"},
		{"tracked by others", "proc/sys/net/netfilter/nf_conntrack_count", "17", 1, "nf_conntrack_count = 17", "notrack"},
		{"small table", "", "", 8193, "2^12 buckets (ip_vs.conn_tab_bits) for 8193 entries", "conn_tab_bits=14"},
		{"large table", tableBits, "20", 2 << 20, "", ""},
		{"a million", "", "", 1 << 20, "for 1048576 entries", "conn_tab_bits=20' > /etc/modprobe.d/ip_vs.conf (at most 20 before Linux 6.5; 8192 KiB"},
		{"more than the kernel takes", tableBits, "27", 1 << 29, "for 536870912", "conn_tab_bits=27"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{tableBits: {Data: []byte("12\n")}, "proc/sys/net/netfilter/nf_conntrack_count": {Data: []byte("0\n")}}
			for _, s := range []string{"backup_only", "drop_entry", "conntrack"} {
				root[vs+s] = &fstest.MapFile{Data: []byte("0\n")}
			}
			if tt.path != "" {
				root[tt.path] = &fstest.MapFile{Data: []byte(tt.value + "\n")}
			}
			found, err := Check(root, tt.entries)
			if err != nil {
				t.Fatal(err)
			}
			if tt.what == "" {
				if len(found) > 0 {
					t.Fatalf("found %v", found)
				}
				return
			}
			if len(found) != 1 || !strings.Contains(found[0].What, tt.what) || !strings.Contains(found[0].String(), tt.remedy) {
				t.Fatalf("found %v; want %q with remedy %q", found, tt.what, tt.remedy)
			}
		})
	}
	if _, err := Check(fstest.MapFS{}, 1); err == nil {
		t.Error("a kernel without IPVS was not reported")
	}
}
