/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The endpoints' table. Nothing outside this file knows how it is kept: here two hashes. */
#pragma once
#include "maps.h"
#include "parse.h"

HASH(td_pins4, struct pin4_key, struct pin, 2000000);
HASH(td_pins6, struct pin6_key, struct pin, 2000000);

static __always_inline struct pin *pin_lookup(const struct packet *p, __u16 vip, __u16 port)
{
	if (p->ip.v6) {
		struct pin6_key k = { .addr = p->endpoint, .port = port, .vip = vip };
		return bpf_map_lookup_elem(&td_pins6, &k);
	}
	struct pin4_key k = { .addr = p->endpoint.word[3], .port = port, .vip = vip };
	return bpf_map_lookup_elem(&td_pins4, &k);
}

/* Rule 8. */
static __always_inline struct pin *pin_find(struct packet *p, const struct local *vip)
{
	struct pin *pin = 0;

	if (p->ports && vip->by_port && p->endpoint_port) {
		pin = pin_lookup(p, vip->vip, p->endpoint_port);
		if (pin && pin->target.drop == DROP_NO_PORT)
			pin = 0;
		if (pin)
			p->key_port = p->endpoint_port;
	}
	if (!pin)
		pin = pin_lookup(p, vip->vip, 0);
	if (!pin || (p->ports && pin->target.drop == DROP_NO_PORT))
		return 0;
	p->matched = 1;
	return pin;
}

/* The time lies beside the target, in a line that is already at hand, and is written once in 8 units, not per packet. */
static __always_inline void pin_seen(struct pin *pin)
{
	__u32 now = bpf_ktime_get_coarse_ns() >> 30;

	if (now - pin->seen >= 8 || !pin->seen)
		pin->seen = now;
}
