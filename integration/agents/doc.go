// Package agents holds the agent's program against the director's in labs, with real tunnels: what is told, adopted, drained.
package agents
