// Package vm runs compiled Go tests on Debian's kernel in a virtual machine without a network, so that the project is held
// against the IPVS, the IPsec and the tunnels of a kernel that operators have, whatever the kernel of the machine at hand
// can do. qemu emulates the processor; KVM is used where it was seen to work.
//
// Nothing is installed: kernel and software are Debian packages that lie unpacked in build/vm (package debs), and that is
// also where the image built of them is kept. The guest's file system is two archives, one after the other (package cpio): the
// image, and what the job brings along. Package init is the guest's first process, package wire what it tells the host.
//
// Run does one boot and tells a guest that could not do its work (a GuestError) from tests that failed (in the Report).
// Command run is the same for a developer at a terminal:
//
//	go run ./integration/vm/run -package ./director/plane/xdp -run TestPlane
package vm
