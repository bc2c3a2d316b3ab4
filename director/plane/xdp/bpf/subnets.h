/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* The subnets' table, covers among them. Nothing outside this file knows how it is kept: here one hash per family over
 * {tenant, length, prefix}, asked once per length that the tenant uses, longest first. */
#pragma once
#include "maps.h"
#include "parse.h"

HASH(td_subnets4, struct subnet4_key, struct target, 2000000);
HASH(td_subnets6, struct subnet6_key, struct target, 2000000);
HASH(td_lengths4, __u32, struct lengths4, 4096);
HASH(td_lengths6, __u32, struct lengths6, 4096);
HASH(td_covers, struct cover_key, __u32, 65536);

static __always_inline __be32 mask_word(__be32 word, int bits)
{
	if (bits <= 0)
		return 0;
	if (bits >= 32)
		return word;
	return word & bpf_htonl(~0U << (32 - bits));
}

SEPARATE int subnet_find4(struct packet *p, struct target *out)
{
	if (!p || !out)
		return 0;
	__u32 tenant = p->tenant;
	struct lengths4 *l = bpf_map_lookup_elem(&td_lengths4, &tenant);

	if (!l)
		return 0;
	for (__u32 i = 0; i < 33; i++) {
		if (i >= l->n)
			break;
		__u8 bits = l->bits[i];
		struct subnet4_key k = { .tenant = tenant, .bits = bits };
		k.prefix = mask_word(p->ip.dst.word[3], bits);
		struct target *t = bpf_map_lookup_elem(&td_subnets4, &k);
		if (t) {
			p->bits = bits;
			*out = *t;
			return 1;
		}
	}
	return 0;
}

SEPARATE int subnet_find6(struct packet *p, struct target *out)
{
	if (!p || !out)
		return 0;
	__u32 tenant = p->tenant;
	struct lengths6 *l = bpf_map_lookup_elem(&td_lengths6, &tenant);

	if (!l)
		return 0;
	for (__u32 i = 0; i < 129; i++) {
		if (i >= l->n)
			break;
		int bits = l->bits[i];
		struct subnet6_key k = { .tenant = tenant, .bits = bits };
		k.prefix.word[0] = mask_word(p->ip.dst.word[0], bits);
		k.prefix.word[1] = mask_word(p->ip.dst.word[1], bits - 32);
		k.prefix.word[2] = mask_word(p->ip.dst.word[2], bits - 64);
		k.prefix.word[3] = mask_word(p->ip.dst.word[3], bits - 96);
		struct target *t = bpf_map_lookup_elem(&td_subnets6, &k);
		if (t) {
			p->bits = bits;
			*out = *t;
			return 1;
		}
	}
	return 0;
}

/* Rule 11. */
static __always_inline bool subnet_find(struct packet *p, struct target *out)
{
	if (!(p->ip.v6 ? subnet_find6(p, out) : subnet_find4(p, out)))
		return false;
	p->matched = 1;
	return true;
}
