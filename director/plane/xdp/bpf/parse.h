/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* From bytes to struct packet: rules 1 to 3. */
#pragma once
#include "types.h"

#define ETH_P_IP   0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define MAX_OFFSET 2000 /* of a header in the frame; chains that are longer are nobody's traffic */

struct eth {
	__u8 dst[6], src[6];
	__be16 type;
};

struct vlan_tag {
	__be16 tci, type;
};

struct ipv4 {
	__u8 ver_ihl, tos;
	__be16 len, id, frag;
	__u8 ttl, proto;
	__u16 check;
	__be32 src, dst;
};

struct ipv6 {
	__be32 ver_tc_flow;
	__be16 payload;
	__u8 next, hops;
	struct addr src, dst;
};

/* The headers are read where they lie, at odd multiples of two: the kernels that this runs on allow it. */

/* What one IP header and the ports behind it say. */
struct ip {
	struct addr src, dst;
	__u32 len; /* of the IP packet */
	__u32 l4; /* offset in the frame */
	__u16 sport, dport; /* host byte order */
	__u8 v6, proto, fragment, hops;
	__u8 df, ports, icmp_type, tos;
};

struct packet {
	struct ip ip; /* outer */
	__u32 ifindex;
	__u32 frame; /* bytes, all buffers */
	__u16 l2; /* bytes of Ethernet and tag */
	__u16 vlan;
	__u8 smac[6];

	/* the key of the tunnel side; for an ICMP error the inner packet's */
	struct addr endpoint;
	__u16 endpoint_port, service_port;
	__u8 proto, fragment, ports, icmp_error;

	__u8 ask; /* the twin's question names the tenant */

	/* the decision */
	__u8 side, backup, hashed, matched;
	__u16 index, service, tenant, key_port;
	__u8 bits;
};

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5]));
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	return !((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) |
		 (a->word[3] ^ b->word[3]));
}

static __always_inline void addr_from4(struct addr *a, __be32 v4)
{
	a->word[0] = a->word[1] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = v4;
}

/* Compilers know that off is small and forget to tell the verifier. */
static __always_inline __u64 bounded(__u64 off)
{
	asm volatile("%0 &= 0x7ff" : "+r"(off));
	return off;
}

/* Ports, or the type of an ICMP message; both lie in the first 8 bytes, and every whole header has those. */
static __always_inline int parse_l4(void *data, void *end, __u32 limit, struct ip *ip)
{
	bool icmp = ip->proto == (ip->v6 ? 58 : 1);

	if (ip->fragment == LATER || !(icmp || ip->proto == 6 || ip->proto == 17))
		return FORWARDED;
	if (ip->l4 > MAX_OFFSET || ip->l4 + 8 > limit)
		return DROP_MALFORMED;
	__be16 *port = data + bounded(ip->l4);
	if ((void *)(port + 4) > end)
		return DROP_MALFORMED;
	if (icmp) {
		ip->icmp_type = *(__u8 *)port;
		return FORWARDED;
	}
	ip->ports = 1;
	ip->sport = bpf_ntohs(port[0]);
	ip->dport = bpf_ntohs(port[1]);
	return FORWARDED;
}

/* avail: bytes from off to the end of the frame. A quoted packet may be longer than what is quoted of it. */
static __always_inline int parse_v4(void *data, void *end, __u32 off, __u32 avail, bool quoted, struct ip *ip)
{
	struct ipv4 *h = data + bounded(off);

	if ((void *)(h + 1) > end || (h->ver_ihl >> 4) != 4)
		return DROP_MALFORMED;
	__u32 hlen = (h->ver_ihl & 15) * 4;
	ip->len = bpf_ntohs(h->len);
	if (hlen < 20 || hlen > avail || ip->len < hlen || (!quoted && ip->len > avail))
		return DROP_MALFORMED;
	__u16 frag = bpf_ntohs(h->frag);
	ip->fragment = frag & 0x1fff ? LATER : frag & 0x2000 ? FIRST : WHOLE;
	ip->df = !!(frag & 0x4000);
	ip->proto = h->proto;
	ip->hops = h->ttl;
	ip->tos = h->tos;
	addr_from4(&ip->src, h->src);
	addr_from4(&ip->dst, h->dst);
	ip->l4 = off + hlen;
	return parse_l4(data, end, off + (quoted ? avail : ip->len), ip);
}

static __always_inline bool is_extension(__u8 next)
{
	return next == 0 || next == 43 || next == 60 || next == 44;
}

/* One extension header; false where there is no more of them to walk over. */
static __always_inline bool walk_v6(void *data, void *end, __u32 limit, __u32 *at, __u8 *next, struct ip *ip, int *r)
{
	if (!is_extension(*next))
		return false;
	__u8 *ext = data + bounded(*at);
	if (*at > MAX_OFFSET || *at + 8 > limit || (void *)(ext + 8) > end) {
		*r = DROP_MALFORMED;
		return false;
	}
	bool fragment = *next == 44;
	*next = ext[0];
	if (!fragment) {
		*at += (ext[1] + 1) * 8;
		return true;
	}
	*at += 8;
	__u16 word = ext[2] << 8 | ext[3];
	if (word & 0xfff8)
		ip->fragment = LATER;
	else if (word & 1)
		ip->fragment = FIRST;
	return !(word & 0xfff8);
}

SEPARATE int parse_v6(struct xdp_md *ctx, __u32 off, __u32 avail, bool quoted, struct ip *ip)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6 *h = data + bounded(off);

	if (!ip)
		return DROP_MALFORMED;
	if ((void *)(h + 1) > end || (bpf_ntohl(h->ver_tc_flow) >> 28) != 6)
		return DROP_MALFORMED;
	ip->v6 = 1;
	ip->df = 1;
	ip->len = 40 + bpf_ntohs(h->payload);
	if (avail < 40 || (!quoted && ip->len > avail))
		return DROP_MALFORMED;
	ip->hops = h->hops;
	ip->src = h->src;
	ip->dst = h->dst;
	__u32 limit = off + (quoted ? avail : ip->len), at = off + 40;
	__u8 next = h->next;

	/* unrolled by hand: clang likes to enter this loop in the middle, and Linux 6.1 takes no such loop */
	int r = FORWARDED;
	bool more = walk_v6(data, end, limit, &at, &next, ip, &r) && walk_v6(data, end, limit, &at, &next, ip, &r) &&
		    walk_v6(data, end, limit, &at, &next, ip, &r) && walk_v6(data, end, limit, &at, &next, ip, &r) &&
		    walk_v6(data, end, limit, &at, &next, ip, &r) && walk_v6(data, end, limit, &at, &next, ip, &r);
	if (r || (more && is_extension(next)))
		return DROP_MALFORMED;
	if (at > limit)
		return DROP_MALFORMED;
	ip->proto = next;
	ip->l4 = at;
	return parse_l4(data, end, limit, ip);
}

static __always_inline int parse(struct xdp_md *ctx, struct iface *iface, struct packet *p)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct eth *eth = data;

	if ((void *)(eth + 1) > end)
		return DROP_MALFORMED;
	if (!mac_equal(eth->dst, iface->mac))
		return PASS_MAC;
	__builtin_memcpy(p->smac, eth->src, 6);
	__be16 type = eth->type;
	__u32 l2 = sizeof(*eth);
	if (type == bpf_htons(ETH_P_8021Q)) {
		struct vlan_tag *tag = (void *)(eth + 1);
		if ((void *)(tag + 1) > end)
			return DROP_MALFORMED;
		p->vlan = bpf_ntohs(tag->tci) & 0xfff;
		type = tag->type;
		l2 += sizeof(*tag);
	}
	p->l2 = l2;
	p->frame = bpf_xdp_get_buff_len(ctx);
	if (type == bpf_htons(ETH_P_IP))
		return parse_v4(data, end, l2, p->frame - l2, false, &p->ip);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_v6(ctx, l2, p->frame - l2, false, &p->ip);
	return PASS_NOT_IP;
}
