// Package doctor finds what is wrong with a director and with what it depends on: what it is, since when, what it causes and
// what mends it. It looks and asks; it sends no packet and changes nothing. What it cannot look at, it says.
//
// It owns no state: a Patient is how it reaches all that it looks at. A check is one function in a file of its own.
package doctor
