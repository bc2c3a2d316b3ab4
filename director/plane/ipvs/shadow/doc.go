// Package shadow is the data plane that forwards nothing: for moving over from another IPVS front end, keepalived say. It takes what it
// is told into a table in memory (plane/mem), answers Lookup from it, and on Audit compares the table with the IPVS of the
// kernel, whoever has set that up and whatever it has learned. It changes nothing in the kernel.
//
// An audit says: the virtual services and real servers that IPVS lacks (Missing), the connections and persistence templates
// that go elsewhere than their pin says (Other), and those whose endpoint has no pin (Surplus). A pin without a connection is no difference:
// IPVS learns a connection with the first packet. What comes under a firewall mark is compared connection by connection, but
// neither its templates nor its service can be told to be those of a VIP.
package shadow
