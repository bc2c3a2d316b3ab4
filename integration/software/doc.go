// Package software gets tunnel software for labs and starts it on their machines: as sites have it, and as terminators behind a
// virtual IP do. Debian's packages are unpacked, not installed.
//
// It owns nothing: processes are the lab's. What a test is about, it must not know.
package software
