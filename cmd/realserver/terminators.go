package main

import (
	"net/netip"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"tunneldirector/realserver"
	"tunneldirector/realserver/space"
	"tunneldirector/realserver/terminator"
	"tunneldirector/realserver/terminator/exec"
	"tunneldirector/realserver/terminator/fastd"
	"tunneldirector/realserver/terminator/libreswan"
	"tunneldirector/realserver/terminator/strongswan"
	"tunneldirector/realserver/terminator/wireguard"
	"tunneldirector/realserver/terminator/xfrm"
)

// A TerminatorConfig is a kind of software and its settings. Each kind has its own.
type TerminatorConfig struct {
	Kind     string
	Settings settings
}

// settings are what a kind needs to know.
type settings interface {
	check(r *reader, path string)
	// make makes the driver; it touches nothing.
	make(s *RealServer) (terminator.Terminator, error)
}

// kindNames are in the order of the example.
func kindNames() []string {
	return []string{"strongswan", "libreswan", "xfrm", "wireguard", "fastd", "exec"}
}

// newSettings are a kind's defaults; nil if there is no such kind.
func newSettings(kind string) settings {
	switch kind {
	case "strongswan":
		return &strongSwan{Socket: strongswan.DefaultSocket, Timeout: strongswan.DefaultTimeout, KernelIPsec: true}
	case "libreswan":
		return &libreSwan{RunDir: libreswan.DefaultRunDir, Program: libreswan.DefaultProgram, Timeout: libreswan.DefaultTimeout}
	case "xfrm":
		return &kernelSAs{}
	case "wireguard":
		return &wireGuard{}
	case "fastd":
		return &fastD{Port: 10000}
	case "exec":
		return &programs{Timeout: realserver.AskLimit}
	}
	return nil
}

func (t *TerminatorConfig) readYAML(r *reader, n ast.Node, at string) {
	r.pairs(n, at, func(key, at string, n ast.Node) {
		if key == "kind" {
			r.value(n, at, reflect.ValueOf(&t.Kind).Elem())
		}
	})
	if t.Settings = newSettings(t.Kind); t.Settings == nil {
		return // check tells
	}
	known := append([]field{{"kind", reflect.ValueOf(&t.Kind).Elem()}}, fieldsOf(reflect.ValueOf(t.Settings).Elem())...)
	r.mapping(n, at, known)
}

func (t *TerminatorConfig) check(r *reader, at string) {
	switch {
	case t.Settings != nil:
		t.Settings.check(r, at)
	case r.said(at):
	case t.Kind == "":
		r.FaultAt(at+".kind", "is missing; one of %s", strings.Join(kindNames(), ", "))
	default:
		r.FaultAt(at+".kind", "%q is not one of %s", t.Kind, strings.Join(kindNames(), ", "))
	}
}

// needs is a fault of a setting that has to be there.
func needs(r *reader, at, value string) {
	if value == "" && !r.said(at) {
		r.FaultAt(at, "is missing")
	}
}

func absolutePath(r *reader, at, file string) {
	if file != "" && !filepath.IsAbs(file) {
		r.FaultAt(at, "%q is not an absolute path", file)
	}
}

// strongSwan is charon, by VICI.
type strongSwan struct {
	Socket       string            `yaml:"socket"`
	Connections  string            `yaml:"connections"`
	Timeout      time.Duration     `yaml:"timeout"`
	KernelIPsec  bool              `yaml:"kernel_ipsec"`
	Proposals    []string          `yaml:"proposals"`
	ESPProposals []string          `yaml:"esp_proposals"`
	Child        map[string]string `yaml:"child"`
}

func (s *strongSwan) check(r *reader, at string) {
	absolutePath(r, at+".socket", s.Socket)
	within(r, at+".timeout", s.Timeout, 100*time.Millisecond, realserver.AskLimit)
	pattern(r, at+".connections", s.Connections)
}

func (s *strongSwan) make(rs *RealServer) (terminator.Terminator, error) {
	o := strongswan.Options{Socket: s.Socket, Connections: s.Connections, Timeout: s.Timeout, Proposals: s.Proposals, ESPProposals: s.ESPProposals, Child: s.Child}
	if s.KernelIPsec {
		k, err := kernelOf(rs)
		if err != nil {
			return nil, err
		}
		o.Kernel = k
	}
	return strongswan.New(o)
}

// kernelOf are the kernel's SAs of a real server.
func kernelOf(s *RealServer) (*xfrm.Driver, error) {
	return xfrm.New(xfrm.Options{Space: space.Space(s.Namespace), VIPs: s.VIPs})
}

// pattern is a fault of a pattern of names that is none.
func pattern(r *reader, at, s string) {
	if _, err := path.Match(s, ""); err != nil {
		r.FaultAt(at, "%q is not a pattern of names; write site-*", s)
	}
}

// libreSwan is pluto, by whack.
type libreSwan struct {
	RunDir      string        `yaml:"run_dir"`
	Program     string        `yaml:"whack"`
	Connections string        `yaml:"connections"`
	Timeout     time.Duration `yaml:"timeout"`
}

func (l *libreSwan) check(r *reader, at string) {
	absolutePath(r, at+".run_dir", l.RunDir)
	absolutePath(r, at+".whack", l.Program)
	within(r, at+".timeout", l.Timeout, 100*time.Millisecond, realserver.AskLimit)
	pattern(r, at+".connections", l.Connections)
}

func (l *libreSwan) make(s *RealServer) (terminator.Terminator, error) {
	k, err := kernelOf(s)
	if err != nil {
		return nil, err
	}
	return libreswan.New(libreswan.Options{RunDir: l.RunDir, Program: l.Program, Connections: l.Connections, Timeout: l.Timeout, Kernel: k})
}

// kernelSAs are the kernel's IPsec, whatever daemon or person keys it. It has no settings.
type kernelSAs struct{}

func (*kernelSAs) check(*reader, string) {}

func (*kernelSAs) make(s *RealServer) (terminator.Terminator, error) { return kernelOf(s) }

// wireGuard is one device, the kernel's or in user space.
type wireGuard struct {
	Device       string `yaml:"device"`
	Socket       string `yaml:"socket"`
	SendsFromVIP bool   `yaml:"sends_from_vip"`
}

func (w *wireGuard) check(r *reader, at string) {
	needs(r, at+".device", w.Device)
	absolutePath(r, at+".socket", w.Socket)
}

func (w *wireGuard) make(s *RealServer) (terminator.Terminator, error) {
	return wireguard.New(wireguard.Options{Device: w.Device, Socket: w.Socket, Space: space.Space(s.Namespace), VIPs: s.VIPs, SendsFromVIP: w.SendsFromVIP}), nil
}

// fastD is one fastd, by its status socket.
type fastD struct {
	Socket  string                    `yaml:"socket"`
	Port    uint16                    `yaml:"port"`
	Subnets map[string][]netip.Prefix `yaml:"subnets"`
	Clear   string                    `yaml:"clear"`
}

func (f *fastD) check(r *reader, at string) {
	needs(r, at+".socket", f.Socket)
	absolutePath(r, at+".socket", f.Socket)
	absolutePath(r, at+".clear", f.Clear)
	for peer, list := range f.Subnets {
		if slices.Contains(list, netip.Prefix{}) && !r.said(at+".subnets") {
			r.FaultAt(at+".subnets."+peer, "is no list of prefixes")
		}
	}
}

func (f *fastD) make(s *RealServer) (terminator.Terminator, error) {
	return fastd.New(fastd.Options{Socket: f.Socket, Space: space.Space(s.Namespace), VIPs: s.VIPs, Port: f.Port, Subnets: f.Subnets, Clear: f.Clear}), nil
}

// programs are for any other software: each is an argv, whose first word is an absolute path.
type programs struct {
	Tunnels []string      `yaml:"tunnels"`
	Adopt   []string      `yaml:"adopt"`
	Release []string      `yaml:"release"`
	Accept  []string      `yaml:"accept"`
	Carries []string      `yaml:"carries"`
	Work    []string      `yaml:"work"`
	Timeout time.Duration `yaml:"timeout"`
}

func (p *programs) check(r *reader, at string) {
	if len(p.Tunnels) == 0 && !r.said(at+".tunnels") {
		r.FaultAt(at+".tunnels", "is missing: the program that lists what is established")
	}
	for _, x := range []struct {
		key  string
		argv []string
	}{{"tunnels", p.Tunnels}, {"adopt", p.Adopt}, {"release", p.Release}, {"accept", p.Accept}, {"carries", p.Carries}, {"work", p.Work}} {
		if len(x.argv) > 0 && !filepath.IsAbs(x.argv[0]) && !r.said(at+"."+x.key) {
			r.FaultAt(at+"."+x.key, "%q is not the absolute path of a program", x.argv[0])
		}
	}
	within(r, at+".timeout", p.Timeout, 100*time.Millisecond, realserver.AskLimit)
}

func (p *programs) make(s *RealServer) (terminator.Terminator, error) {
	return exec.New(exec.Options{Tunnels: p.Tunnels, Adopt: p.Adopt, Release: p.Release, Accept: p.Accept, Carries: p.Carries, Work: p.Work, Timeout: p.Timeout,
		Space: space.Space(s.Namespace)}), nil
}
