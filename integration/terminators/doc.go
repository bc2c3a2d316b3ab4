// Package terminators holds the tests of the agent's drivers with the software that they drive: wireguard-go, fastd, and what the
// example programs of examples/agent serve. Real servers and sites run it in a lab whose director is the kernel's routing.
package terminators
