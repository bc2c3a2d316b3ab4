// Package director is the loop that ties the table, the disk and the data plane together.
//
// Values flow in two straight lines:
//
//	push:    HTTP handler ─▶ Do ─▶ check ─▶ table (claims) ─▶ place ─▶ store commit ─▶ publish ─▶ data plane ─▶ answer
//	failure: probes ─▶ Verdict ─▶ data plane: one write ─▶ latched on disk ─▶ sweep: re-place orphans ─▶ data plane ─▶ event
//
// One goroutine (Run) owns the wanted state. It builds the next table beside the published one, and throws it away if the
// disk refuses it. Readers see immutable tables. The package knows no concrete disk, kernel or protocol.
package director
