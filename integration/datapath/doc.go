// Package datapath holds the director's probes against a real server's answers to them: director/probe on the one side of a
// wire, realserver/answer in a process of its own on the other, which is killed, stopped and cut off.
package datapath
