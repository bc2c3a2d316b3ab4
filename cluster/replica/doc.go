// Package replica carries records between directors, so that all of them have the same table.
//
// Each director dials each other one. On the connection that it dialled it is the source: it sends what it wrote itself, and
// begins rounds. The other one is the sink. A Delta of records is acknowledged when the receiver's Local has it on disk and in
// its data plane.
//
//	source                                        sink
//	Hello ──────────────────────▶◀────────────── Hello     versions, store, boot, digest's root
//	Delta, Delta, ... ──────────▶◀────────────── Ack       own writes, as they come
//	Groups ─────────────────────▶                          a round begins: sums of the digest's groups
//	Sums ───────────────────────▶◀────────────── Sums      down to the leaves, where they differ
//	Lack ───────────────────────▶◀────────────── Delta     leaves that are empty at the source: all of them
//	Delta ──────────────────────▶                          leaves that are empty at the sink
//	Entries ────────────────────▶◀────────────── Differ    versions in the leaves that differ; what the sink has there
//	Delta, Want ────────────────▶◀────────────── Delta     each sends what the other lacks
//	Done ───────────────────────▶◀────────────── Done      all of it is acknowledged, both ways
//	Question ───────────────────▶◀────────────── Answer    either way, at any time
//
// A round finds whatever was missed: at connect if the roots differ, when a queue was full and was dropped, and when the roots
// go on differing. It reads an immutable snapshot of the table; the director's loop never waits for it. A director takes part in
// one round at a time, so that what two others both have comes from one of them.
//
// The reader of a connection never waits for anything but the peer's bytes: what the peer may send before it is answered is
// bounded, and more than that ends the connection. So nothing deadlocks on full buffers, and memory is bounded.
//
// One mutex of a Replica guards the state of all peers. The package makes no connections and knows no keys: it gets
// connections whose ends have proved who they are.
package replica
