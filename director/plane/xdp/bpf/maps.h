/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The small maps; pins.h and subnets.h have the big ones. User space writes all but the counters. Where a reader must
 * never see half a value, the map is a hash (elements are replaced whole) or the half is one aligned word. */
#pragma once
#include "types.h"

#define HASH(NAME, KEY, VALUE, MAX)                 \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_HASH);    \
		__uint(max_entries, MAX);           \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__type(key, KEY);                   \
		__type(value, VALUE);               \
	} NAME SEC(".maps")

#define ARRAY(NAME, TYPE, VALUE, MAX)               \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_##TYPE);  \
		__uint(max_entries, MAX);           \
		__type(key, __u32);                 \
		__type(value, VALUE);               \
	} NAME SEC(".maps")

HASH(td_vips, struct local_key, __u32, 4096); /* VIP -> its number in pin keys; for user space, lasts as long as pins */
HASH(td_locals, struct local_key, struct local, 4096);
HASH(td_ifaces, __u32, struct iface, 256);
HASH(td_vlans, struct vlan_key, __u32, 16384);
HASH(td_server_vlan, struct server_vlan_key, __u32, 65536);

ARRAY(td_servers, ARRAY, struct server, MAX_SERVERS);
ARRAY(td_links, ARRAY, struct link, 2 * MAX_SERVERS); /* 2 * index + (1 for IPv6) */
ARRAY(td_rings, ARRAY, struct target, (MAX_SERVICES + 1) * RING_SIZE);

ARRAY(td_n_server, PERCPU_ARRAY, struct traffic, MAX_SERVERS);
ARRAY(td_n_service, PERCPU_ARRAY, struct traffic, MAX_SERVICES + 1); /* 0: the subnet side */
ARRAY(td_n_reason, PERCPU_ARRAY, __u64, (MAX_SERVICES + 1) * REASONS); /* service 0: none known */
ARRAY(td_rate, PERCPU_ARRAY, struct rate, 1);

ARRAY(td_watch, ARRAY, struct watch, 1);
ARRAY(td_limits, PERCPU_ARRAY, struct limit, REASONS); /* by reason; FORWARDED: what is watched and not dropped */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024); /* some 3,000 samples */
	__type(value, struct sample);
} td_samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} td_devices SEC(".maps");
