package vip

// The marks of our addresses (IFA_PROTO); `ip -details address` shows them as proto 0x7d and 0x7e.
const (
	Protocol        = 0x7d // VIPs
	ProtocolGateway = 0x7e
)
