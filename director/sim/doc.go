// Package sim is a simulation, as tests: several directors in one bubble of virtual time. The loop, the table, heartbeats and
// replication are the real ones; network, disks, clocks, real servers and sites are made here and do what real ones do when
// they fail. Everything that is to happen comes from a seed, so that a history that shows a fault can be had again.
//
// What the goroutines of the directors do within one instant of virtual time is the scheduler's choice, and not the seed's.
package sim
