// Package badgerstore keeps the affinity records on this director's disk. It is the only importer of badger.
//
// What Commit acknowledged survives kill -9 and power loss. A Store belongs to one process (the directory is locked)
// and one writer at a time; Load, State and Meta may be called from anywhere.
//
// Badger writes through memory maps, where a full disk is not an error but SIGBUS, which ends the process and, since
// opening writes too, ends it again at each restart. So the Store never gets there: it refuses writes while there
// still is room for what badger does in the background, and holds a ballast file, which it gives up so that closing
// and opening work on a disk that somebody else filled. What it cannot prevent is that somebody else takes the last
// block within the second or two of a compaction: that still ends the process, loses nothing, and the next Open says
// what is wrong. A file system or a quota of its own rules it out.
//
// Opening verifies every checksum of badger's tables, and loading those of the values. Two kinds of damage look like the
// torn end that a crash leaves and are taken for it: a bad byte within a log that is not yet a table, and a manifest
// cut at its end.
//
// All values are smaller than badger's value threshold: its value log stays empty and needs no collection, and
// overwritten versions go away in compaction.
//
// The package knows nothing of what is in a value, of tables, clocks or peers.
package badgerstore
