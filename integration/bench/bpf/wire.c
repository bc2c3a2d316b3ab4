// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/* A generator, a receiver that checks order, and the least that a director could do, for packets over veth. */
#include "parse.h"

#define FIRST_SOURCE 0x0a000000 /* the first source: 10.0.0.0 */
#define SAMPLE 64        /* one source in so many has its order checked */
#define SAMPLES (1 << 15)

struct hop {
	__u8 dst[6], src[6];
	__u32 ifindex, keys;
};

struct sums {
	__u64 sent, received, reordered, astray;
};

#define ONE(NAME, TYPE, MAX)                         \
	struct {                                     \
		__uint(type, BPF_MAP_TYPE_ARRAY);    \
		__uint(max_entries, MAX);            \
		__type(key, __u32);                  \
		__type(value, TYPE);                 \
	} NAME SEC(".maps")

ONE(wire_way, struct hop, 2); /* 0: of the generator, 1: of the redirector */
ONE(wire_sums, struct sums, 1); /* one core: nobody else adds */
ONE(wire_last, __u32, SAMPLES);

const volatile __u32 wire_vip;

struct esp {
	__be32 spi, seq;
};

static __always_inline void write_mac(struct eth *eth, const struct hop *w)
{
	__builtin_memcpy(eth->dst, w->dst, 6);
	__builtin_memcpy(eth->src, w->src, 6);
}

static __always_inline __u16 checksum(const struct ipv4 *h)
{
	const __u16 *word = (const void *)h;
	__u32 sum = 0;

	for (int i = 0; i < 10; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* Writes the next packet of ESP, from a random source. */
SEC("xdp")
int wire_feed(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	struct ipv4 *h = (void *)(eth + 1);
	struct esp *esp = (void *)(h + 1);
	__u32 zero = 0;
	struct hop *w = bpf_map_lookup_elem(&wire_way, &zero);
	struct sums *sums = bpf_map_lookup_elem(&wire_sums, &zero);

	if (!w || !sums || (void *)(esp + 1) > end)
		return XDP_ABORTED;
	write_mac(eth, w);
	eth->type = bpf_htons(ETH_P_IP);
	__builtin_memset(h, 0, sizeof(*h));
	h->ver_ihl = 0x45;
	h->len = bpf_htons(end - data - 14);
	h->ttl = 64;
	h->proto = 50;
	h->src = bpf_htonl(FIRST_SOURCE + bpf_get_prandom_u32() % (w->keys ?: 1));
	h->dst = wire_vip;
	h->check = checksum(h);
	esp->spi = bpf_htonl(1);
	esp->seq = bpf_htonl(++sums->sent);
	return bpf_redirect(w->ifindex, 0);
}

/* Changes the MAC addresses and sends the packet on: no program that forwards can do less. */
SEC("xdp")
int wire_redirect(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	__u32 one = 1;
	struct hop *w = bpf_map_lookup_elem(&wire_way, &one);

	if (!w || (void *)(eth + 1) > end)
		return XDP_ABORTED;
	if (eth->type != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	write_mac(eth, w);
	return bpf_redirect(w->ifindex, 0);
}

SEC("xdp")
int wire_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* Takes in what the generator wrote, and looks whether it came to the right machine and, of some sources, in order. */
SEC("xdp")
int wire_take(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;
	struct ipv4 *h = (void *)(eth + 1);
	struct esp *esp = (void *)(h + 1);
	__u32 zero = 0, one = 1;
	struct hop *w = bpf_map_lookup_elem(&wire_way, &one);
	struct sums *sums = bpf_map_lookup_elem(&wire_sums, &zero);

	if (!w || !sums || (void *)(esp + 1) > end || eth->type != bpf_htons(ETH_P_IP) || h->proto != 50)
		return XDP_PASS;
	sums->received++;
	for (int i = 0; i < 6; i++)
		if (eth->dst[i] != w->dst[i]) {
			sums->astray++;
			return XDP_DROP;
		}
	__u32 source = bpf_ntohl(h->src) - FIRST_SOURCE, sample = source / SAMPLE, seq = bpf_ntohl(esp->seq);
	if (source % SAMPLE)
		return XDP_DROP;
	__u32 *last = bpf_map_lookup_elem(&wire_last, &sample);
	if (!last)
		return XDP_DROP;
	if ((__s32)(seq - *last) <= 0)
		sums->reordered++;
	*last = seq;
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
