// Package realserver is the agent's loop: one Agent on each host of real servers.
//
//	terminator ─▶ look ─▶ book (established tunnels, numbered by change) ─▶ streams ─▶ every director, from its own cursor
//	directors  ─▶ order ─▶ queue (paced, the biggest first) ─▶ terminator ─▶ seen in the book ─▶ progress ─▶ every director
//
// Each real server has a goroutine that looks (it owns health), one that carries out orders, and one that measures load; each director
// has one that speaks to it. What they share are the book, the queue and the view of an instance, small and each behind its mutex. Nobody
// waits for a director: what one has not been told yet is found again in the book, from where its cursor stands.
//
// An Agent that stops, however it stops, changes nothing: not the terminator, not the host. What it knows it learns anew.
// Faults alone, which it made on purpose for a drill, are undone (Faults).
//
// The package picks no driver and reads no file: terminators, load meters, responders and connections are given to it.
package realserver
