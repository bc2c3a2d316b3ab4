// Command realserver is the agent on a host of real servers, and what people ask of it: `realserver run` is the daemon; plan, apply,
// revert and doctor are about the host, and status and tunnels ask the running daemon by its socket.
//
// It is where terminators, load meters and responders are picked and put together; what it must not do is anything that a package
// below realserver does.
package main
