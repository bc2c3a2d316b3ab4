/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* What the program and user space share: keys and values of maps, and the numbers of package plane. Padding is
 * spelled out everywhere, so that a value is the same bytes for both and equal values compare equal. */
#pragma once
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* A function that the verifier looks at once, by itself, rather than again for every way that leads to it. */
#define SEPARATE __attribute__((noinline))

/* plane.Reason; a test holds the two lists together. */
enum reason {
	FORWARDED         = 0,
	DROP_NO_SERVICE   = 1,
	DROP_UNKNOWN      = 2,
	DROP_NO_PORT      = 3,
	DROP_DEAD         = 6,
	DROP_COVER        = 7,
	DROP_LOOP         = 8,
	DROP_HOPS         = 9,
	DROP_SOURCE       = 10,
	DROP_TOO_BIG      = 11,
	DROP_NO_NEIGHBOUR = 12,
	DROP_MALFORMED    = 13,
	DROP_AMBIGUOUS    = 14,
	DROP_ICMP         = 15,
	DROP_ROLE         = 16,
	PASS_NOT_IP       = 32,
	PASS_MAC          = 33,
	PASS_LOCAL        = 34,
	PASS_CONTROL      = 35,
	REASONS           = 64,
};

enum {
	ROLE_TUNNEL = 1,
	ROLE_SUBNET = 2,

	METHOD_IPIP = 1,

	SIDE_NONE   = 0,
	SIDE_TUNNEL = 1,
	SIDE_SUBNET = 2,

	WHOLE = 0,
	FIRST = 1,
	LATER = 2,

	ASK_TENANT    = 8,
	ASK_NO_TENANT = 16, /* one that nobody knows */

	MAX_RULES    = 64,
	MAX_SERVICES = 64,
	MAX_SERVERS  = 4096,
	RING_SIZE    = 1024,

	SAMPLE_BYTES = 128, /* plane.SampleBytes */

	WATCH_FILTER = 1, /* it says anything at all */
	WATCH_V4     = 2,
	WATCH_V6     = 4,
};

/* An address: IPv4 in word 3 behind ::ffff:0:0, as plane.HashAddr has it. All in network byte order. */
struct addr {
	__u32 word[4];
};

/* The director's addresses and the VIPs. Family is in the key, so that a mapped address inside IPv6 is nobody's. */
struct local_key {
	__u32 family; /* 4 or 6 */
	struct addr addr;
};

struct rule {
	__u8 proto;
	__u8 ring; /* the service has one */
	__u16 lo, hi; /* host byte order */
	__u16 service;
};

struct local {
	__u16 vip; /* the VIP's number in pin keys; 0: not a VIP */
	__u8 own;
	__u8 by_port; /* there are pins with a port at this VIP */
	__u32 rules;
	struct rule rule[MAX_RULES]; /* by service number */
};

struct iface {
	__u8 mac[6];
	__u8 roles;
	__u8 _pad;
	__u32 addr4; /* the director's own there, for ICMP errors to the subnet side; 0: none */
	struct addr addr6;
};

struct vlan_key {
	__u32 ifindex;
	__u32 vlan;
};

struct pin4_key {
	__u32 addr;
	__u16 port; /* host byte order */
	__u16 vip;
};

struct pin6_key {
	struct addr addr;
	__u16 port;
	__u16 vip;
};

struct target {
	__u16 primary, backup;
	__u8 drop;
	__u8 cover; /* a tenant's covering prefix, not a subnet */
	__u16 _pad;
};

struct pin {
	struct target target;
	__u32 seen; /* CLOCK_MONOTONIC in units of 2^30 ns; 0: never */
};

struct subnet4_key {
	__u16 tenant;
	__u16 bits;
	__u32 prefix;
};

struct subnet6_key {
	__u16 tenant;
	__u16 bits;
	struct addr prefix;
};

/* For user space: the covers, also those that a subnet of the same prefix hides. */
struct cover_key {
	__u16 tenant;
	__u16 bits;
	struct local_key prefix;
};

/* Prefix lengths in use, longest first. */
struct lengths4 {
	__u32 n;
	__u8 bits[36];
};

struct lengths6 {
	__u32 n;
	__u8 bits[132];
};

/* One incarnation as the configuration has it. The first 8 bytes are written in one piece. */
struct server {
	__u8 alive;
	__u8 method;
	__u8 tagged; /* it declares VLANs */
	__u8 _pad;
	__u32 mtu; /* 0: the link's */
	__u32 tag4; /* HashAddr of the address by which links[] must have been found; 0: none */
	__u32 tag6;
	__u32 addr4; /* outer destination under IPIP; 0: none */
	__u32 has6;
	struct addr addr6;
};

/* How a server is reached, per family, found by the daemon from routes and neighbours. */
struct link {
	__u8 mac[6];
	__u16 known;
	__u8 smac[6];
	__u8 neighbour; /* mac is the server's own: no router stands before it */
	__u8 _pad;
	__u32 ifindex;
	__u32 mtu;
	__u32 tag; /* of the server address that this is about */
	struct addr source; /* outer source under IPIP */
	__u32 _pad2;
};

struct server_vlan_key {
	__u16 index;
	__u16 tenant;
};

struct traffic {
	__u64 packets;
	__u64 bytes;
};

struct rate {
	__u64 window;
	__u64 sent;
};

/* The packets that somebody wants to see, by the outer header. What is zero fits all. */
struct watch {
	__u64 until; /* CLOCK_MONOTONIC in ns; 0: nobody watches */
	struct addr src, src_mask, dst, dst_mask;
	__u16 sport, dport; /* host byte order */
	__u8 proto;
	__u8 flags; /* WATCH_... */
	__u16 _pad;
};

/* How many samples of one reason there have been in this window, on one CPU. */
struct limit {
	__u64 window;
	__u32 shown;
	__u32 lost; /* since the maps were made, because td_samples was full */
};

/* The beginning of a packet as it came in, and what became of it. */
struct sample {
	__u64 ktime; /* CLOCK_MONOTONIC in ns */
	__u32 ifindex;
	__u32 length; /* of the frame */
	__u16 captured; /* bytes of head that count */
	__u16 service, tenant, index;
	__u8 reason, side, watched;
	__u8 _pad[5];
	__u8 head[SAMPLE_BYTES];
};

/* What the twin is asked (ifindex, and in flags whether tenant counts rather than interface and tag) and answers, in the frame's metadata: 32 bytes, the most that Linux 6.1 takes. */
struct answer {
	__u32 ifindex;
	__u8 reason;
	__u8 side;
	__u8 flags; /* asked: ASK_...; answered: 1: the backup, 2: hashed, 4: a key matched */
	__u8 bits;
	__u16 index;
	__u16 service;
	__u16 port;
	__u16 tenant;
	struct addr endpoint;
};
