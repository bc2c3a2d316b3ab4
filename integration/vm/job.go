package vm

import (
	"io"
	"log/slog"
	"time"
)

// Kernel is a kernel of Debian, by the package that depends on its newest version.
type Kernel string

const (
	Cloud Kernel = "linux-image-cloud-amd64" // boots fastest; no PPP
	Full  Kernel = "linux-image-amd64"
)

// Software is what a guest has unless a job says otherwise. strongSwan and libreswan are both there, which an installation
// would not allow.
var Software = []string{
	"bash", "busybox-static", "conntrack", "iperf3", "iproute2", "iputils-ping", "ipvsadm", "kmod", "nftables", "tcpdump", "wireguard-tools", "xl2tpd", "ppp",
	"libgcc-s1", // loaded by the C library when a thread is cancelled
	"netbase",
	"charon-systemd", "libcharon-extra-plugins", "libstrongswan", "libstrongswan-standard-plugins", "strongswan-charon", "strongswan-libcharon", "strongswan-swanctl",
	"libreswan", "libnss3", "libnss3-tools",
}

// What a job gets that names nothing else.
const (
	DefaultMemory  = 1024 // MB
	DefaultCPUs    = 2
	DefaultTimeout = 5 * time.Minute
)

// Job is what one boot of a guest does.
type Job struct {
	Kernel   Kernel            // "": Cloud
	Packages []string          // Debian packages besides Software
	Memory   int               // MB; 0: DefaultMemory
	CPUs     int               // 0: DefaultCPUs
	Files    map[string]string // further files: path in the guest to file of the host
	Director bool              // bring the director and the agent along; tests find their paths in the environment's DIRECTOR and REALSERVER
	Tests    []Tests           // run one after the other
	Out      string            // directory for what the guest leaves in /out, and for console.log; "": none is kept

	Live   io.Writer    // the tests' output as it comes; nil: none
	Logger *slog.Logger // what the host does; nil: none
}

// Tests are tests of one package. In the guest they find the package's testdata, and these variables besides Env: CI=true,
// TUNNELDIRECTOR_VM=1, OUT (a directory whose files go to the host), DIRECTOR.
type Tests struct {
	Package string        // as for go test, from the module's root: ./director/plane/xdp
	Run     string        // as -test.run; "": all
	Skip    string        // as -test.skip
	Bench   string        // as -test.bench; "": none
	Env     []string      // NAME=value
	Timeout time.Duration // of all of them; 0: DefaultTimeout
}

func (t Tests) timeout() time.Duration {
	if t.Timeout > 0 {
		return t.Timeout
	}
	return DefaultTimeout
}

// withDefaults fills in what the job leaves open.
func (j Job) withDefaults() Job {
	if j.Kernel == "" {
		j.Kernel = Cloud
	}
	if j.Memory == 0 {
		j.Memory = DefaultMemory
	}
	if j.CPUs == 0 {
		j.CPUs = DefaultCPUs
	}
	if j.Live == nil {
		j.Live = io.Discard
	}
	if j.Logger == nil {
		j.Logger = slog.New(slog.DiscardHandler)
	}
	return j
}
