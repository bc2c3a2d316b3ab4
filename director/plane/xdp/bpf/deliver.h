/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* Rule 18: rewrites the frame and sends it. */
#pragma once
#include "decide.h"
#include "icmp.h"

/* RFC 1141: the TTL is the high byte of its word, so one less is 0x0100 more in the checksum. */
static __always_inline bool decrement_hops(struct xdp_md *ctx, const struct packet *p)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 l2 = p->l2 == 14 ? 14 : 18;

	if (p->ip.v6) {
		struct ipv6 *h = data + l2;
		if ((void *)(h + 1) > end)
			return false;
		h->hops--;
		return true;
	}
	struct ipv4 *h = data + l2;
	if ((void *)(h + 1) > end)
		return false;
	__u32 sum = h->check + (__u32)bpf_htons(0x0100);
	h->check = sum + (sum >= 0xffff);
	h->ttl--;
	return true;
}

static __always_inline bool write_eth(struct xdp_md *ctx, const struct packet *p, const struct link *l, __u32 vlan)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	struct vlan_tag *tag = (void *)(eth + 1);
	__be16 type = p->ip.v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

	if ((void *)(tag + 1) > end)
		return false;
	__builtin_memcpy(eth->dst, l->mac, 6);
	__builtin_memcpy(eth->src, l->smac, 6);
	if (!vlan) {
		eth->type = type;
		return true;
	}
	eth->type = bpf_htons(ETH_P_8021Q);
	tag->tci = bpf_htons(vlan);
	tag->type = type;
	return true;
}

static __always_inline bool write_outer4(struct xdp_md *ctx, const struct packet *p, const struct way *w, __u32 l2)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv4 *h = data + l2;

	if ((void *)(h + 1) > end)
		return false;
	__builtin_memset(h, 0, sizeof(*h));
	h->ver_ihl = 0x45;
	h->tos = p->ip.tos;
	h->len = bpf_htons(p->ip.len + sizeof(*h));
	h->frag = bpf_htons(0x4000);
	h->ttl = 64;
	h->proto = 4;
	h->src = w->link->source.word[3];
	h->dst = w->server->addr4;
	h->check = fold(bpf_csum_diff(0, 0, (void *)h, sizeof(*h), 0));
	return true;
}

/* Traffic class and flow label are the inner packet's, so that paths are chosen by the flow inside. */
static __always_inline bool write_outer6(struct xdp_md *ctx, const struct packet *p, const struct way *w, __u32 l2)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6 *h = data + l2, *inner = h + 1;

	if ((void *)(inner + 1) > end)
		return false;
	h->ver_tc_flow = inner->ver_tc_flow;
	h->payload = bpf_htons(p->ip.len);
	h->next = 41;
	h->hops = 64;
	h->src = w->link->source;
	h->dst = w->server->addr6;
	return true;
}

static __always_inline __u32 server_tag(const struct packet *p, const struct server *s)
{
	if (p->side != SIDE_SUBNET || !s->tagged)
		return 0;
	struct server_vlan_key k = { .index = p->index, .tenant = p->tenant };
	__u32 *vlan = bpf_map_lookup_elem(&td_server_vlan, &k);
	return vlan ? *vlan : 0;
}

/* An action, or XDP_ABORTED where the frame could not be rewritten. */
static __always_inline int deliver(struct xdp_md *ctx, const struct packet *p, const struct way *w)
{
	__u32 vlan = server_tag(p, w->server), l2 = vlan ? 18 : 14, outer = 0;

	if (w->server->method == METHOD_IPIP)
		outer = p->ip.v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
	if (!decrement_hops(ctx, p))
		return XDP_ABORTED;
	int delta = (int)p->l2 - (int)(l2 + outer);
	if (delta && bpf_xdp_adjust_head(ctx, delta))
		return XDP_ABORTED;
	if (!write_eth(ctx, p, w->link, vlan))
		return XDP_ABORTED;
	if (outer && !(p->ip.v6 ? write_outer6(ctx, p, w, l2) : write_outer4(ctx, p, w, l2)))
		return XDP_ABORTED;
	if (w->link->ifindex == p->ifindex)
		return XDP_TX;
	return bpf_redirect_map(&td_devices, w->link->ifindex, XDP_ABORTED);
}
