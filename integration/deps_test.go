package integration

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "tunneldirector"

// anything stands for all packages, of ours or not.
const anything = "*"

// importRules say which packages of ours a package may import. A rule holds for the packages below, too, unless they have
// one of their own.
var importRules = map[string][]string{
	"affinity":             {},
	"affinity/place":       {"affinity"},
	"affinity/badgerstore": {"affinity"},
	"cluster":              {},
	"cluster/gossip":       {"cluster", "cluster/beat/fault"},
	"cluster/beat":         {"cluster", "cluster/beat/fault"},
	"cluster/beat/fault":   {}, // what is wrong between directors, in sentences
	"cluster/replica":      {"cluster", "affinity"},
	"director/plane":       {"affinity"},
	// The one suite over all planes, and what it is held against.
	"director/plane/planetest": {"affinity", "director/plane", "director/plane/mem", "director/plane/frame"},
	"director/plane/mem":       {"affinity", "director/plane"},
	"director/plane/xdp":       {"affinity", "director/plane", "director/plane/frame", "director/vip/dump"},
	// It asks mem what becomes of a packet that meets these few entries.
	"director/plane/ipvs":         {"affinity", "director/plane", "director/vip/dump", "director/plane/mem", "director/plane/frame", "director/plane/ipvs/conntab", "director/plane/ipvs/gate", "director/plane/ipvs/inject", "director/plane/ipvs/route"},
	"director/plane/ipvs/conntab": {},
	"director/plane/ipvs/inject":  {"affinity", "director/plane"},
	"director/plane/ipvs/route":   {"director/plane", "director/vip/sysctl"},
	"director/plane/ipvs/shadow":  {"affinity", "director/plane", "director/plane/mem", "director/plane/ipvs", "director/plane/ipvs/conntab"},
	"director/plane/frame":        {"affinity", "director/plane"},
	"director/api":                {"affinity"},
	"director/config":             {"affinity", "director/config/tree"},
	"director/config/tree":        {}, // how files that people write are read, and what is wrong with them told
	"director/blackbox":           {"affinity", "director/api", "director/plane"},
	"director/vip":                {"affinity", "cluster", "director/plane", "director/vip/ruleset", "director/vip/sysctl", "director/vip/dump"},
	"director/vip/dump":           {}, // lists of the kernel that change while they are read
	// One table of the packet filter, kept as declared: two own one, the filter of the VIPs and the gate of plane ipvs.
	"director/vip/ruleset":     {"director/plane"},
	"director/plane/ipvs/gate": {"affinity", "director/plane", "director/plane/frame", "director/vip/ruleset", "director/vip/sysctl"},
	// How the kernel's settings are read and explained, wherever they matter.
	"director/vip/sysctl": {},
	"director/drill":      {"director/config/tree"},
	"director/probe":      {"affinity", "cluster", "director/agent", "director/plane", "director/vip/dump"},
	"director": {
		"affinity", "affinity/place", "cluster", "cluster/replica", "director/plane", "director/api", "director/config", "director/vip",
		"director/agent", "director/observe", "director/probe",
	},
	// Faults of the machine that it runs on, whoever asks for them.
	"director/drill/fault": {"realserver/space"},
	// What a director and an agent say to each other: bytes alone.
	"director/agent":   {},
	"director/observe": {"affinity", "director/agent", "director/crowd"},
	"director/crowd":   {}, // how many are served at once, of agents and of directors
	"cluster/ca":       {},
	"realserver": {
		"director/agent", "cluster/ca", "realserver/host", "realserver/terminator", "realserver/load", "realserver/answer", "realserver/space",
	},
	"realserver/host":       {"director/vip/sysctl", "director/vip/dump", "realserver/space"},
	"realserver/terminator": {"director/agent", "realserver/terminator", "realserver/space"},
	"realserver/load":       {"director/agent", "realserver/terminator", "realserver/space"},
	"realserver/answer":     {"director/agent", "realserver/space"},
	"realserver/space":      {},
	"director/sim":          {anything}, // several directors in one bubble: tests alone
	"cmd":                   {anything},
	"integration":           {anything},
	"integration/lab":       {}, // it does not know the director's code
	"integration/spaces":    {}, // for tests of any package
	"examples":              {anything},
}

// owners are the only importers of what only one package is to know.
var owners = map[string][]string{
	"github.com/dgraph-io/badger":     {"affinity/badgerstore", "integration/bench"}, // the bench measures it alone, as a peer
	"github.com/hashicorp/memberlist": {"cluster/gossip"},
	"github.com/moby/ipvs":            {"director/plane/ipvs"},
	"github.com/cilium/ebpf":          {"director/plane/xdp", "integration"},
	"github.com/google/nftables":      {"director/vip", "realserver/host", "director/plane/ipvs/gate", "director/drill/fault", "examples/demo", "integration/lab"},
	"github.com/urfave/cli":           {"cmd", "integration/vm/run"},
	"github.com/danielgtaylor/huma":   {"director/api"},
	"github.com/strongswan/govici":    {"realserver/terminator", "integration/guest/strongswan"},
	"golang.zx2c4.com/wireguard":      {"realserver/terminator", "integration/lab"},
}

// anyTestMay is what test files of any package import.
var anyTestMay = []string{"integration/spaces"}

// testsMay are what test files import beyond that and the rule of their package.
var testsMay = map[string][]string{
	"director":                   {"director/plane/mem"},
	"director/plane/xdp":         {"director/plane/mem", "director/plane/planetest"},
	"director/plane/ipvs":        {"director/plane/planetest"},
	"director/plane/ipvs/inject": {"director/plane/ipvs/conntab"},
	// The drivers that ask their software over a unix socket.
	"realserver/terminator/fastd":      {"realserver/terminator/terminatortest"},
	"realserver/terminator/strongswan": {"realserver/terminator/terminatortest"},
	"realserver/terminator/wireguard":  {"realserver/terminator/terminatortest"},
}

// TestImports reads the imports of every file, whatever system it is for.
func TestImports(t *testing.T) {
	root := ".."
	packages := 0
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (strings.HasPrefix(e.Name(), ".") && file != root || e.Name() == "testdata" || e.Name() == "build" || e.Name() == "bin"):
			return filepath.SkipDir
		case e.IsDir() || !strings.HasSuffix(file, ".go"):
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		if !seen[dir] {
			seen[dir], packages = true, packages+1
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if why := refused(dir, imported, strings.HasSuffix(file, "_test.go")); why != "" {
				t.Errorf("%s imports %s: %s", strings.TrimPrefix(file, "../"), imported, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if packages < 15 {
		t.Errorf("read %d packages only", packages)
	}
	for dir := range seen {
		if _, ok := ruleOf(dir); !ok {
			t.Errorf("no rule for package %s", dir)
		}
	}
}

// refused says why a package may not import another one; "" if it may.
func refused(dir, imported string, isTest bool) string {
	ours, ok := strings.CutPrefix(imported, module+"/")
	if !ok {
		for prefix, may := range owners {
			if under(imported, prefix) && !slices.ContainsFunc(may, func(owner string) bool { return under(dir, owner) }) && !isTest {
				return "only " + strings.Join(may, " and ") + " may"
			}
		}
		return ""
	}
	may, known := ruleOf(dir)
	if isTest {
		may = slices.Concat(may, anyTestMay, testsMay[dir])
	}
	switch {
	case !known:
		return "no rule for " + dir
	case slices.Contains(may, anything), slices.Contains(may, ours), isTest && ours == dir:
		return ""
	}
	return "only of " + strings.Join(may, ", ") + " it may"
}

// ruleOf is the rule of a package, or of the closest one above that has one.
func ruleOf(dir string) ([]string, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if may, ok := importRules[d]; ok {
			return may, true
		}
	}
	return nil, false
}

// under tells whether a path is another one or below it.
func under(p, of string) bool { return p == of || strings.HasPrefix(p, of+"/") }

// TestImportRules: the rules themselves refuse what they are there for.
func TestImportRules(t *testing.T) {
	for _, tt := range []struct {
		dir, imported string
		isTest        bool
		refused       bool
	}{
		{"affinity", "net/netip", false, false},
		{"affinity", module + "/director/plane", false, true},
		{"affinity/place", module + "/affinity", false, false},
		{"director", module + "/director/plane/xdp", false, true},
		{"director", module + "/director/plane/mem", false, true},
		{"director", module + "/director/plane/mem", true, false},
		{"director", module + "/affinity/badgerstore", false, true},
		{"director/api", module + "/director", false, true},
		{"director/plane/mem", module + "/director/plane/xdp", false, true},
		{"director/plane/xdp", module + "/director/plane/xdp/bpf", false, true},
		{"integration/lab", module + "/director/api", false, true},
		{"director/vip", module + "/integration/spaces", true, false},
		{"director/vip", module + "/integration/spaces", false, true},
		{"cmd/director", module + "/affinity/badgerstore", false, false},
		{"director", "github.com/dgraph-io/badger/v4", false, true},
		{"affinity/badgerstore", "github.com/dgraph-io/badger/v4", false, false},
		{"nowhere", module + "/affinity", false, true},
	} {
		if why := refused(tt.dir, tt.imported, tt.isTest); (why != "") != tt.refused {
			t.Errorf("%s importing %s: refused %t (%s), want %t", tt.dir, tt.imported, why != "", why, tt.refused)
		}
	}
}
