// Package strongswan runs strongSwan's IKE daemon, charon, on machines of a lab, and talks to it by VICI, its control
// protocol: load, rekey, list, terminate.
//
// A Daemon owns its process and the files below its machine's /run. Who sits on which machine, and what lies between, it
// must not know. The settings are those of a site or a terminator that is run behind a virtual IP: no MOBIKE, which would
// advertise a real server's own addresses.
package strongswan
