// Package libreswan runs libreswan's IKE daemon, pluto, on machines of a lab, and talks to it by its command, whack.
//
// A Daemon owns its process and the files below its machine's /run: pluto reads its connections from there when it starts,
// and begins those that call by itself. Who sits on which machine, and what lies between, it must not know.
package libreswan
