package api

// A NextHop is how an address of a real server is reached, by what the kernel knows, what the data plane holds, and what
// answered on the wire.
type NextHop struct {
	RealServer string `json:"real_server"`
	Address    string `json:"address" doc:"of the real server"`
	Via        string `json:"via,omitempty" doc:"the neighbour that its packets go to: itself, or a gateway"`
	Interface  string `json:"interface,omitempty"`
	MTU        int    `json:"mtu,omitempty" doc:"of the way, as far as this machine knows it"`
	MAC        string `json:"mac,omitempty" doc:"the neighbour's, by the kernel"`
	State      string `json:"state,omitempty" doc:"of the kernel's neighbour entry"`
	Static     bool   `json:"static,omitempty" doc:"somebody wrote the neighbour entry: it follows no change"`

	PlaneMAC       string `json:"plane_mac,omitempty" doc:"what the data plane sends to; missing: it asks the kernel, or knows none"`
	PlaneInterface string `json:"plane_interface,omitempty"`
	PlaneUnknown   bool   `json:"plane_unknown,omitempty" doc:"the data plane keeps MAC addresses of its own, and has none for it"`
	WireMAC        string `json:"wire_mac,omitempty" doc:"who answered this director's own ARP or neighbour solicitation last"`

	Why string `json:"why,omitempty" doc:"why it is not known"`
}

// Sends is the MAC address that packets go to.
func (h *NextHop) Sends() string {
	if h.PlaneMAC != "" {
		return h.PlaneMAC
	}
	return h.MAC
}
