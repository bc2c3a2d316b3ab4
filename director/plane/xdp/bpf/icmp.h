/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Tells a sender that its packet is too big (RFC 792, 1191, 4443), by turning the packet into the answer. */
#pragma once
#include "maps.h"
#include "parse.h"

#define QUOTE4 256 /* bytes quoted; bpf_csum_diff takes 512 at most, and RFC 1812 wants no more than 576 in all */
#define QUOTE6 448
#define TELL_PER_WINDOW 134 /* a window is 2^27 ns: about 1,000 a second and CPU */

struct icmp {
	__u8 type, code;
	__u16 check;
	__be16 unused, mtu4;
};

struct reply4 {
	struct ipv4 ip;
	struct icmp icmp;
};

struct reply6 {
	struct ipv6 ip;
	__u8 type, code;
	__u16 check;
	__be32 mtu;
};

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline bool may_tell(void)
{
	__u32 zero = 0;
	struct rate *r = bpf_map_lookup_elem(&td_rate, &zero);

	if (!r)
		return false;
	__u64 now = bpf_ktime_get_coarse_ns() >> 27;
	if (r->window != now) {
		r->window = now;
		r->sent = 0;
	}
	return r->sent++ < TELL_PER_WINDOW;
}

/* No error about an error, about a later fragment, or to where no answer is possible. */
static __always_inline bool should_tell(const struct packet *p)
{
	if (!p->ip.df || p->ip.fragment == LATER)
		return false;
	if (p->ip.v6)
		return p->ip.proto != 58 || p->ip.icmp_type >= 128;
	if (p->ip.proto != 1)
		return true;
	__u8 t = p->ip.icmp_type;
	return t != 3 && t != 4 && t != 5 && t != 11 && t != 12;
}

/* Cuts the frame to L2 + quote, makes room for the new headers, and turns the Ethernet header round. */
static __always_inline bool make_room(struct xdp_md *ctx, const struct packet *p, __u32 quote, int headers)
{
	struct eth eth;
	struct vlan_tag tag = {};
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + sizeof(eth) + sizeof(tag) > end)
		return false;
	__builtin_memcpy(&eth, data, sizeof(eth));
	__builtin_memcpy(&tag, data + sizeof(eth), sizeof(tag));
	int cut = (int)(p->l2 + quote) - (int)p->frame;
	if (cut > 0 || bpf_xdp_adjust_tail(ctx, cut) || bpf_xdp_adjust_head(ctx, -headers))
		return false;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	struct eth *out = data;
	if ((void *)(out + 1) + sizeof(tag) > end)
		return false;
	__builtin_memcpy(out->dst, eth.src, 6);
	__builtin_memcpy(out->src, eth.dst, 6);
	out->type = eth.type;
	if (p->l2 != sizeof(eth))
		__builtin_memcpy(out + 1, &tag, sizeof(tag));
	return true;
}

static __always_inline int tell4(struct xdp_md *ctx, const struct packet *p, __be32 source, __u32 mtu)
{
	if (!make_room(ctx, p, QUOTE4, sizeof(struct reply4)))
		return XDP_DROP;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 l2 = p->l2 == 14 ? 14 : 18;
	struct reply4 *r = data + l2;
	if ((void *)(r + 1) + QUOTE4 > end)
		return XDP_DROP;
	__builtin_memset(r, 0, sizeof(*r));
	r->ip.ver_ihl = 0x45;
	r->ip.tos = 0xc0;
	r->ip.len = bpf_htons(sizeof(*r) + QUOTE4);
	r->ip.ttl = 64;
	r->ip.proto = 1;
	r->ip.src = source;
	r->ip.dst = p->ip.src.word[3];
	r->ip.check = fold(bpf_csum_diff(0, 0, (void *)&r->ip, sizeof(r->ip), 0));
	r->icmp.type = 3;
	r->icmp.code = 4;
	r->icmp.mtu4 = bpf_htons(mtu);
	r->icmp.check = fold(bpf_csum_diff(0, 0, (void *)&r->icmp, sizeof(r->icmp) + QUOTE4, 0));
	return XDP_TX;
}

static __always_inline int tell6(struct xdp_md *ctx, const struct packet *p, const struct addr *source, __u32 mtu)
{
	if (!make_room(ctx, p, QUOTE6, sizeof(struct reply6)))
		return XDP_DROP;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 l2 = p->l2 == 14 ? 14 : 18;
	struct reply6 *r = data + l2;
	if ((void *)(r + 1) + QUOTE6 > end)
		return XDP_DROP;
	__builtin_memset(r, 0, sizeof(*r));
	r->ip.ver_tc_flow = bpf_htonl(6U << 28);
	r->ip.payload = bpf_htons(8 + QUOTE6);
	r->ip.next = 58;
	r->ip.hops = 64;
	r->ip.src = *source;
	r->ip.dst = p->ip.src;
	r->type = 2;
	r->mtu = bpf_htonl(mtu);
	__u32 sum = bpf_csum_diff(0, 0, (void *)&r->ip.src, 2 * sizeof(struct addr), bpf_htonl(8 + QUOTE6 + 58));
	r->check = fold(bpf_csum_diff(0, 0, (void *)&r->type, 8 + QUOTE6, sum));
	return XDP_TX;
}

/* The answer comes from the address that was asked: the VIP; on the subnet side from the director's own. */
static __always_inline int tell_too_big(struct xdp_md *ctx, const struct packet *p, const struct iface *iface, __u32 mtu)
{
	struct addr source = p->ip.dst;

	if (!should_tell(p))
		return XDP_DROP;
	if (p->side == SIDE_SUBNET) {
		if (p->ip.v6)
			source = iface->addr6;
		else
			source.word[3] = iface->addr4;
		if (!source.word[3])
			return XDP_DROP;
	}
	if (!may_tell())
		return XDP_DROP;
	return p->ip.v6 ? tell6(ctx, p, &source, mtu) : tell4(ctx, p, source.word[3], mtu);
}
