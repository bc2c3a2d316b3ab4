// Package smoke holds tests on the guest itself: that the kernel has what the others' tests take, that programs start, that
// what is left in /out arrives. They run in the virtual machine only; see package vm.
package smoke
