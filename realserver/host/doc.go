// Package host makes a real server's host right for the forwarding methods dr and tunnel, puts it back, and explains what is
// wrong with it.
//
// What is to be is worked out anew at each call, as a list of small things, each with a value: a setting of the kernel, an
// address, a device, a route, a rule. Plan compares, Apply makes it so in that order (nothing holds a VIP before nobody
// answers for it), Revert goes the other way round.
//
// Before a thing is changed, what was there is put into the state file, so that a program that is killed between any two
// steps leaves something that Revert understands. What was there already is not the package's: it is left, and said. What
// somebody else changed since is left too. A state file is good for one life of a network namespace: what it says of one that
// was made anew, or of the time before the host was started, is forgotten.
//
// The package keeps nothing in memory. It must not know the terminators nor the agent.
package host
