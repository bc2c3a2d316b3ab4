// Package ecmp runs the routers of examples/ecmp, as they are written, before two directors that hold the same VIPs.
package ecmp
