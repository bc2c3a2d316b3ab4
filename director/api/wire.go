package api

import "time"

// Addresses and prefixes are strings on the wire, so that each fault can name its field, its value and the remedy.

// A Tunnel is what an NMS pushes.
type Tunnel struct {
	ID           string            `json:"id,omitempty" doc:"1 to 128 letters, digits and . _ : -"`
	Service      string            `json:"service" doc:"name of the virtual service that the site dials"`
	Endpoints    []string          `json:"endpoints,omitempty" doc:"the site's public addresses, each with or without a source port: 203.0.113.5, 203.0.113.5:41641, 2001:db8::5, [2001:db8::5]:4500"`
	Subnets      []string          `json:"subnets,omitempty" doc:"prefixes behind the site, in canonical form: 100.64.40.32/28"`
	Bandwidth    uint64            `json:"bandwidth_bps,omitempty" maximum:"10000000000000" doc:"expected, bit/s; 0: not known"`
	Group        string            `json:"group,omitempty" doc:"tunnels of one group share a real server"`
	Tenant       string            `json:"tenant,omitempty" doc:"empty: the default tenant"`
	State        string            `json:"state,omitempty" enum:",down,coming,up" doc:"coming: it will be up in seconds, place it now"`
	Labels       map[string]string `json:"labels,omitempty"`
	SeparateFrom []string          `json:"separate_from,omitempty" doc:"groups or tunnels that want another real server than this one"`
	Generation   uint64            `json:"generation,omitempty" doc:"rises with each push; a lower one than known is refused"`
}

// A TunnelState is a tunnel as the director has it.
type TunnelState struct {
	Tunnel
	Owner     string     `json:"owner,omitempty" doc:"name of the token that pushed it; (learned): nobody did, an agent saw it"`
	Created   time.Time  `json:"created"`
	Updated   time.Time  `json:"updated"`
	Placement *Placement `json:"placement"`
	Up        bool       `json:"up"`
	Evidence  string     `json:"evidence,omitempty" doc:"by what it is known to be up: agent, packets or nms. nobody: nobody can say that it is down, so it is not moved either"`
	At        string     `json:"at,omitempty" doc:"real server whose agent says that it is established there"`
	LastSeen  *time.Time `json:"last_seen,omitempty" doc:"last packet, to 10 s, or as the agent says"`
	Roamed    []string   `json:"roamed,omitempty" doc:"where agents saw it besides its endpoints, the newest first; its packets are taken from there too"`
	Contested []string   `json:"contested,omitempty" doc:"claims that another group holds"`
	Split     bool       `json:"split,omitempty" doc:"keeps another real server than its group until it is down or repinned"`
	Warnings  []string   `json:"warnings,omitempty" doc:"accepted, but worth knowing"`
}

// A Placement is where a group is.
type Placement struct {
	RealServer string     `json:"real_server,omitempty"`
	Backup     string     `json:"backup,omitempty"`
	Since      *time.Time `json:"since,omitempty"`
	Why        string     `json:"why,omitempty"`
	Unplaced   string     `json:"unplaced,omitempty" doc:"why it has no real server"`
}

// A PutAnswer answers a single push.
type PutAnswer struct {
	TunnelState
	Changed    bool     `json:"changed"`
	Revision   string   `json:"revision" doc:"watch from here"`
	Programmed []string `json:"programmed" doc:"directors whose data planes have it"`
}

// A DeleteAnswer answers a deletion.
type DeleteAnswer struct {
	Deleted    bool     `json:"deleted" doc:"false: it did not exist"`
	Revision   string   `json:"revision"`
	Programmed []string `json:"programmed" doc:"directors whose data planes have it"`
}

// A TunnelList is one page.
type TunnelList struct {
	Tunnels  []TunnelState `json:"tunnels"`
	Next     string        `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
	Total    int           `json:"total" doc:"tunnels in the table, whatever the filters"`
	Revision string        `json:"revision" doc:"watch from the first page's to miss nothing"`
}

// A Service is what sites dial.
type Service struct {
	Name      string   `json:"name,omitempty"`
	VIPs      []string `json:"vips" doc:"virtual IPs"`
	Protocols []string `json:"protocols" doc:"esp, ah, gre, l2tp, ipip, ip/NUMBER, udp/PORT, tcp/PORT, udp/LOW-HIGH"`
	Method    string   `json:"method,omitempty" enum:",dr,tunnel,masq" doc:"forwarding method; default dr. masq: UDP only, plane ipvs only"`
	Unknown   string   `json:"unknown,omitempty" enum:",drop,hash" doc:"what unknown endpoints get; default drop"`
	Policy    string   `json:"placement,omitempty" enum:",least-load,round-robin" doc:"default least-load"`
	Learn     bool     `json:"learn,omitempty" doc:"take up tunnels that agents see and nobody announced; they expire"`

	MaxUnavailable uint32 `json:"max_unavailable,omitempty" doc:"real servers that may be drained or dead before one more is not drained; 0: no limit"`

	Prefer map[string][]string `json:"prefer,omitempty" doc:"directors that are to hold a VIP, the first one first; a VIP without a list goes by rank"`
}

// A ServiceState is a service as the director has it.
type ServiceState struct {
	Service
	Number  uint16    `json:"number" doc:"in the data planes"`
	Tunnels uint32    `json:"tunnels"`
	Updated time.Time `json:"updated"`
}

// A Tenant is a customer with a subnet space of its own.
type Tenant struct {
	Name   string   `json:"name,omitempty" doc:"default: the one of tunnels that name none"`
	Covers []string `json:"covers" doc:"prefixes that hold its subnets; inside them no match is a drop"`

	Gateways []Gateway `json:"gateways,omitempty" doc:"next hops of target hosts, held by one director each"`
}

// A Gateway is an address that target hosts use as next hop towards subnets.
type Gateway struct {
	Address string   `json:"address"`
	Prefer  []string `json:"prefer,omitempty" doc:"directors that are to hold it, the first one first; without a list it goes by rank"`
}

// A TenantState is a tenant as the director has it.
type TenantState struct {
	Tenant
	Number  uint16    `json:"number" doc:"in the data planes"`
	Updated time.Time `json:"updated"`
}

// A RealServer is a tunnel terminator instance.
type RealServer struct {
	Name      string            `json:"name,omitempty"`
	Host      string            `json:"host,omitempty" doc:"machine that it runs on; default: its name"`
	Zone      string            `json:"zone,omitempty"`
	Addresses []string          `json:"addresses" doc:"on the real servers' network, at most one per family"`
	Services  []string          `json:"services"`
	Weight    *uint32           `json:"weight,omitempty" doc:"relative, default 100; 0 takes no new pins"`
	Capacity  uint32            `json:"capacity,omitempty" doc:"in tunnels; 0: no limit"`
	Admin     string            `json:"admin,omitempty" enum:",active,drained" doc:"default: as it was"`
	VLANs     map[string]uint16 `json:"vlans,omitempty" doc:"802.1Q tag per tenant on the subnet side"`
	Check     string            `json:"check,omitempty" doc:"udp/PORT or tcp/PORT of the terminator; empty: ARP and ND alone"`
}

// A RealServerState is a real server as the director has it.
type RealServerState struct {
	RealServer
	State       string            `json:"state" enum:"new,alive,dead" doc:"new: not seen alive yet"`
	Since       *time.Time        `json:"since,omitempty"`
	Cause       string            `json:"cause,omitempty"`
	Incarnation uint32            `json:"incarnation"`
	Updated     time.Time         `json:"updated"`
	Status      *RealServerStatus `json:"status,omitempty" doc:"counters and load"`
}

// A Changed answers changes of services, tenants and real servers.
type Changed struct {
	Changed  bool     `json:"changed" doc:"false: it was so already"`
	Revision string   `json:"revision"`
	Warnings []string `json:"warnings,omitempty"`
}
