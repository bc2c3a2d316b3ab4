/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Packets that are shown to people (plane.Sampler): those that are dropped, and those that somebody watches for, a few of
 * each reason in a window of time. Where user space does not read, the first ones stay. */
#pragma once
#include "maps.h"
#include "parse.h"

/* Of each reason on each CPU in a window of 2^27 ns: 16 are about 120 a second. Set as the program is loaded, by the number of CPUs. */
volatile const __u32 shown_per_window = 16;

static __always_inline bool drops(__u32 reason)
{
	return reason != FORWARDED && reason < PASS_NOT_IP;
}

/* All that a packet pays while nobody watches. */
static __always_inline struct watch *watch_on(void)
{
	__u32 zero = 0;
	struct watch *w = bpf_map_lookup_elem(&td_watch, &zero);

	return w && w->until ? w : 0;
}

static __always_inline bool addr_fits(const struct addr *a, const struct addr *want, const struct addr *mask)
{
	return !(((a->word[0] ^ want->word[0]) & mask->word[0]) | ((a->word[1] ^ want->word[1]) & mask->word[1]) |
		 ((a->word[2] ^ want->word[2]) & mask->word[2]) | ((a->word[3] ^ want->word[3]) & mask->word[3]));
}

/* A header that parse() did not get through may say anything, and fits no filter; one that it did not get to is all zero, and
 * fits none either. */
static __always_inline bool fits(const struct packet *p, __u32 reason, const struct watch *w)
{
	if (!(w->flags & WATCH_FILTER))
		return true;
	if (reason == DROP_MALFORMED)
		return false;
	if (w->flags & (p->ip.v6 ? WATCH_V4 : WATCH_V6))
		return false;
	if (w->proto && w->proto != p->ip.proto)
		return false;
	if ((w->sport || w->dport) && !p->ip.ports)
		return false;
	if ((w->sport && w->sport != p->ip.sport) || (w->dport && w->dport != p->ip.dport))
		return false;
	return addr_fits(&p->ip.src, &w->src, &w->src_mask) && addr_fits(&p->ip.dst, &w->dst, &w->dst_mask);
}

/* Null: there have been enough in this window. */
static __always_inline struct limit *may_show(__u32 reason, __u64 window)
{
	__u32 i = reason & (REASONS - 1);
	struct limit *l = bpf_map_lookup_elem(&td_limits, &i);

	if (!l)
		return 0;
	if (l->window != window) {
		l->window = window;
		l->shown = 0;
	}
	if (l->shown >= shown_per_window)
		return 0;
	l->shown++;
	return l;
}

/* User space changes what is asked for while until is 0: what was compared counts if until is what it was before. */
static __always_inline bool watched_for(const struct packet *p, __u32 reason, __u64 now)
{
	struct watch *w = watch_on();

	if (!w)
		return false;
	__u64 until = w->until;
	barrier();
	bool fit = now < until && fits(p, reason, w);
	barrier();
	return fit && w->until == until;
}

/* How much of a frame a sample has. No frame is empty, which the verifier has to be told in so many words: Linux 6.1 learns
 * nothing from a comparison with 0. */
static __always_inline __u64 captured(__u64 length)
{
	__u64 n = (length < SAMPLE_BYTES ? length : SAMPLE_BYTES) - 1;

	asm volatile("%0 &= 0x7f" : "+r"(n));
	return n + 1;
}

/* Shows the packet, if it is one to show. The frame is read and not changed. */
SEPARATE int show(struct xdp_md *ctx, const struct packet *p, __u32 reason)
{
	if (!p)
		return 0;
	__u64 now = bpf_ktime_get_coarse_ns(), window = now >> 27;
	bool watched = watched_for(p, reason, now);
	struct limit *l = 0;

	if (drops(reason))
		l = may_show(reason, window);
	if (!l && watched) /* who watches sees drops also in a flood of others for the same reason */
		l = may_show(FORWARDED, window);
	if (!l)
		return 0;
	struct sample *s = bpf_ringbuf_reserve(&td_samples, sizeof(*s), 0);
	if (!s) {
		l->lost++;
		return 0;
	}
	__u64 length = bpf_xdp_get_buff_len(ctx), n = captured(length);
	s->ktime = bpf_ktime_get_ns();
	s->ifindex = p->ifindex;
	s->length = length;
	s->service = p->service;
	s->tenant = p->tenant;
	s->index = p->index;
	s->reason = reason;
	s->side = p->side;
	s->watched = watched;
	__builtin_memset(s->_pad, 0, sizeof(s->_pad));
	s->captured = bpf_xdp_load_bytes(ctx, 0, s->head, n) ? 0 : n;
	bpf_ringbuf_submit(s, 0);
	return 0;
}
