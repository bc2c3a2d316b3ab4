// Package fault makes faults on purpose on the machine that it runs on, for drills, and undoes each, whatever happens.
//
//	Inject ─▶ record on disk, synced ─▶ Do ─▶ in place ─▶ Undo ─▶ record removed
//	                                            │           ▲ again every second until it succeeds
//	                                            └───────────┘ asked for, its time is over, or the daemon stops
//	kill -9, power failure ─▶ Open: what is recorded is undone before anything else
//
// A Ledger is one directory; the goroutine in its Run owns it, and a lock on the directory keeps other processes out. What a fault does
// is an Effect: its exported fields are the record, and from that alone it is undone, also by a process that did not make it.
//
// The package must not know what a fault is for, nor who may ask for one.
package fault
