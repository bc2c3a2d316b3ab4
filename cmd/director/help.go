package main

const appDescription = `A director forwards every packet of a tunnel to one real server, and every packet back to the
same one, by an explicit table. ` + "`director run`" + ` is the daemon; the other commands ask a running one,
through the unix socket of this host unless --server says otherwise. Flags may stand anywhere.

Words: a virtual service is what sites dial (VIPs and protocols); a tunnel is a site's endpoints and the
subnets behind it; a real server terminates tunnels; a pin is where a tunnel's group is placed.

A token is read from a file (--token-file), never from the command line.

Examples:
  director status
  director apply site.yaml
  director tunnel import tunnels.csv
  director trace --from 203.0.113.5 --to 192.0.2.10 --proto esp
  director realserver drain rs2`
