package main

const appDescription = `The agent runs on a host of real servers (tunnel terminators). It answers the directors' probes, tells them
what is established and how loaded each terminator is, and re-establishes tunnels that directors hand over.
` + "`realserver run`" + ` is the daemon. plan, apply, revert and doctor make the host right for the forwarding methods
dr and tunnel, put it back, and say what is wrong with it; the daemon need not run for them.

Examples:
  realserver doctor
  realserver plan
  realserver status`
