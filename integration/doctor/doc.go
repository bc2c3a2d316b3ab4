// Package doctor plants faults in a lab of directors, agents and real tunnels: each is found by `director doctor` and explained by
// `director trace`, in one command.
package doctor
