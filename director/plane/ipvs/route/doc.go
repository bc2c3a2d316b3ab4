// Package route holds what the ipvs plane has in the kernel's routing tables: nexthop objects, routes over them, and rules
// that lead there. What carries Protocol in the network namespace of the thread that opened it is the package's; anything
// else is left alone.
//
// # A nexthop is a group of two
//
// The kernel deletes a nexthop object when its interface loses the carrier or goes down (net/ipv4/nexthop.c,
// nexthop_flush_dev), with every route over it, without a message (nlinfo is NULL there: no RTM_DELNEXTHOP, no RTM_DELROUTE),
// and neither comes back with the carrier. One pulled cable would cost all routes, and a walk of all tables for each object.
//
// So a Nexthop is a nexthop group of the resilient type (Linux 5.13) with one bucket and two members: the hop that packets
// go to, of weight 255, and the sink, of weight 1. One bucket cannot be shared: it is the hop's, always
// (nh_res_group_rebalance). When the kernel takes the hop away the bucket is the sink's at once, and routes stay.
// The sink is a veth pair of ours that swallows everything (SinkName), always up. Healing is one message per Nexthop,
// however many routes there are:
//
//	route 10.1.0.0/16 ─┐
//	route 10.2.0.0/16 ─┼─▶ group ID ──▶ hop: via 192.0.2.7 dev rs0     while rs0 has a carrier
//	pair   100.64.0.9 ─┘           └──▶ sink: dev td-sink              after it had none, until SetNexthops
//
// A dead pair's group has a blackhole for its only member: that kind of nexthop object survives everything.
//
// Members have ids from 0x7f000000 up; they are made, shared and removed by this package.
//
// # What it does not do
//
// It does not know pairs, real servers or tenants, and no neighbours' states; whoever sets nexthops watches links. It sets
// no sysctl (Check reads and explains). Methods that change are called from one goroutine; those that read may be called
// from any.
package route
