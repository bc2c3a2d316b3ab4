// Package journal keeps what a director did and saw on disk, with its causes, for those who ask afterwards.
//
// Events are lines of JSON in files of a directory, 0000000001.ndjson and so on. Files are only added to, begun anew when
// they are large or old, and the oldest are deleted when all are larger than they may be, or too old. What crashes is at
// most the last line: it is left, ended, and skipped by readers. Nothing is synced but a file that is complete: after a
// power cut the last half minute may be missing.
//
// The loop that decides is never held up: Record puts events into memory, which is bounded, and another goroutine writes
// them. What does not fit is counted, and the count is an event, too.
//
// A push of a million tunnels is more than a million events. Each kind has a rate up to which its events are kept one by
// one; those above it are added up, each second, by who asked, what happened and why. The rate is low for pushes and their
// placements, which the NMS and the table know anyway, and higher for all else.
//
// It must not know the table or the loop.
package journal
