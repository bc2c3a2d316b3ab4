// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/* What the forwarder's time is held against. A feeder writes a packet with a random key and tail-calls the program under
 * test, because one packet repeated measures caches, not memory. */
#include "parse.h"

enum { UNDER_TEST = 0 };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bench_next SEC(".maps");

struct line {
	__u64 word[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct line);
} bench_lines SEC(".maps");

/* the destination MAC, and the VIP or, on the subnet side, nothing */
const volatile __u8 bench_mac[6];
const volatile __u32 bench_keys = 1;
const volatile __u32 bench_vip4;
const volatile __u32 bench_vip6[4];

static __always_inline struct eth *start(struct xdp_md *ctx, __be16 type)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;

	if (data + 14 + 40 > end)
		return 0;
	for (int i = 0; i < 6; i++) {
		eth->dst[i] = bench_mac[i];
		eth->src[i] = 2;
	}
	eth->type = type;
	return eth;
}

static __always_inline void fill4(struct ipv4 *h, __be32 src, __be32 dst)
{
	h->ver_ihl = 0x45;
	h->tos = 0;
	h->len = bpf_htons(64);
	h->frag = 0;
	h->ttl = 64;
	h->proto = 50;
	h->src = src;
	h->dst = dst;
}

SEC("xdp.frags")
int bench_feed_v4(struct xdp_md *ctx)
{
	struct eth *eth = start(ctx, bpf_htons(ETH_P_IP));

	if (!eth)
		return XDP_ABORTED;
	fill4((void *)(eth + 1), bpf_htonl(0x14000000 + bpf_get_prandom_u32() % bench_keys), bench_vip4);
	bpf_tail_call(ctx, &bench_next, UNDER_TEST);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int bench_feed_v6(struct xdp_md *ctx)
{
	struct eth *eth = start(ctx, bpf_htons(ETH_P_IPV6));

	if (!eth)
		return XDP_ABORTED;
	struct ipv6 *h = (void *)(eth + 1);
	h->ver_tc_flow = bpf_htonl(6U << 28);
	h->payload = bpf_htons(24);
	h->next = 50;
	h->hops = 64;
	h->src.word[0] = bpf_htonl(0x20010db8);
	h->src.word[1] = bpf_htonl(0x000f0000);
	h->src.word[2] = 0;
	h->src.word[3] = bpf_htonl(bpf_get_prandom_u32() % bench_keys + 1);
	for (int i = 0; i < 4; i++)
		h->dst.word[i] = bench_vip6[i];
	bpf_tail_call(ctx, &bench_next, UNDER_TEST);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int bench_feed_subnet4(struct xdp_md *ctx)
{
	struct eth *eth = start(ctx, bpf_htons(ETH_P_IP));

	if (!eth)
		return XDP_ABORTED;
	fill4((void *)(eth + 1), bpf_htonl(0xcb007101), bpf_htonl(0x0a000000 + bpf_get_prandom_u32() % bench_keys * 16 + 1));
	bpf_tail_call(ctx, &bench_next, UNDER_TEST);
	return XDP_ABORTED;
}

static __always_inline int swap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	__u8 mac[6];

	if ((void *)(eth + 1) > end)
		return XDP_ABORTED;
	__builtin_memcpy(mac, eth->dst, 6);
	__builtin_memcpy(eth->dst, eth->src, 6);
	__builtin_memcpy(eth->src, mac, 6);
	return XDP_TX;
}

/* Swaps the MAC addresses: as little as a program that sends can do. */
SEC("xdp.frags")
int bench_swap(struct xdp_md *ctx)
{
	return swap(ctx);
}

/* One read of a random line of memory that tells where to send: as little as a program with a pin per source can do. */
SEC("xdp.frags")
int bench_line(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 14 + 20 > end)
		return XDP_ABORTED;
	struct ipv4 *h = data + 14;
	__u32 i = bpf_ntohl(h->src) - 0x14000000;
	struct line *l = bpf_map_lookup_elem(&bench_lines, &i);
	if (!l || l->word[0])
		return XDP_ABORTED;
	return swap(ctx);
}

char _license[] SEC("license") = "GPL";
