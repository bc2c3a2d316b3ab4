// Package config turns bytes into valid settings: the node's own file (Config), the operator's records (Records) and the
// file of API tokens (Tokens).
//
// All three are YAML, read strictly: an unknown or repeated key, a value out of range or a rule broken between two
// settings is a fault, and every fault is reported at once, each with its path and line. The node's file holds only what
// is local to the node; services, tenants and real servers are records.
//
// The package owns no state and does not look at the machine, except to read the file it is told to: whether an
// interface exists, or a port is free, is found out by who uses it.
package config
