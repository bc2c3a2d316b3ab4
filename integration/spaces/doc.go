// Package spaces gives tests network namespaces of their own, joined by wires, and small disks that they may fill, and says what a machine lacks. It is for tests of any
// package, imports nothing of ours, and fails the test that it is called by rather than return an error.
package spaces
