/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/* From struct packet to a decision: rules 4 to 17. Touches no byte of the frame. */
#pragma once
#include "pins.h"
#include "subnets.h"

static __always_inline struct local *local_find(const struct addr *a, bool v6)
{
	struct local_key k = { .family = v6 ? 6 : 4, .addr = *a };

	return bpf_map_lookup_elem(&td_locals, &k);
}

/* Rule 5. */
static __always_inline bool bad_source(const struct ip *ip)
{
	__u32 last = bpf_ntohl(ip->src.word[3]);

	if (!ip->v6) {
		if (last == 0 || last >> 24 == 127 || last >> 28 >= 14)
			return true;
	} else {
		if ((ip->src.word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000))
			return true;
		if (!(ip->src.word[0] | ip->src.word[1] | ip->src.word[2]) && last <= 1)
			return true;
	}
	return local_find(&ip->src, ip->v6) != 0;
}

static __always_inline bool icmp_is_error(const struct ip *ip)
{
	if (ip->v6)
		return ip->icmp_type >= 1 && ip->icmp_type <= 4;
	return ip->icmp_type == 3 || ip->icmp_type == 11 || ip->icmp_type == 12;
}

/* Rule 6: an error goes the way of the packet that it is about. */
SEPARATE int read_icmp(struct xdp_md *ctx, struct packet *p)
{
	if (!p)
		return DROP_ICMP;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ip inner = {};
	__u8 type = p->ip.icmp_type;

	if (p->ip.fragment != WHOLE)
		return DROP_ICMP;
	if (p->ip.v6 ? type == 128 || type == 135 || type == 136 : type == 8)
		return PASS_CONTROL;
	if (!icmp_is_error(&p->ip))
		return DROP_ICMP;
	__u32 off = p->ip.l4 + 8, limit = p->l2 + p->ip.len;
	if (off > MAX_OFFSET || off > limit)
		return DROP_ICMP;
	int bad = p->ip.v6 ? parse_v6(ctx, off, limit - off, true, &inner) :
			     parse_v4(data, end, off, limit - off, true, &inner);
	if (bad || !addr_equal(&inner.src, &p->ip.dst))
		return DROP_ICMP;
	p->icmp_error = 1;
	p->proto = inner.proto;
	p->fragment = inner.fragment;
	p->ports = inner.ports;
	p->endpoint = inner.dst;
	p->endpoint_port = inner.dport;
	p->service_port = inner.sport;
	return FORWARDED;
}

enum {
	MATCH_RING = 1 << 16, /* the service has one */
	MATCH_MANY = 1 << 17, /* other services match too */
	MATCH_ANY  = 1 << 18, /* one of all these has a ring */
};

/* Rule 7: the service's number and the flags above; 0: none. Two plain loops, because the verifier walks every
 * combination of what one loop would have to remember. */
SEPARATE __u32 service_first(const struct packet *p, const struct local *vip)
{
	if (!p || !vip)
		return 0;
	__u8 proto = p->proto, ports = p->ports;
	__u16 port = p->service_port;
	for (__u32 i = 0; i < MAX_RULES; i++) {
		if (i >= vip->rules)
			break;
		const struct rule *r = &vip->rule[i];
		if (r->proto == proto && (!ports || (port >= r->lo && port <= r->hi)))
			return r->service | (r->ring ? MATCH_RING : 0);
	}
	return 0;
}

SEPARATE __u32 service_portless(const struct packet *p, const struct local *vip)
{
	__u64 services = 0;
	__u32 lowest = 0, any = 0;

	if (!p || !vip)
		return 0;
	__u8 proto = p->proto;
	for (__u32 i = MAX_RULES; i-- > 0;) {
		const struct rule *r = &vip->rule[i];
		if (i >= vip->rules || r->proto != proto)
			continue;
		__u32 ring = r->ring;
		lowest = r->service | (ring & 1) << 16;
		any |= (ring & 1) << 18;
		services |= 1ULL << ((r->service - 1) & 63);
	}
	return lowest | any | (services & (services - 1) ? MATCH_MANY : 0);
}

static __always_inline __u32 service_find(const struct packet *p, const struct local *vip)
{
	if (!p->ports && (p->proto == 6 || p->proto == 17))
		return service_portless(p, vip);
	return service_first(p, vip);
}

/* plane.HashAddr. */
static __always_inline __u32 hash_addr(const struct addr *a)
{
	__u32 h = 0x811C9DC5;

	for (int i = 0; i < 4; i++) {
		h = (h ^ a->word[i]) * 0x9E3779B1;
		h ^= h >> 15;
	}
	h ^= h >> 16;
	h *= 0x85EBCA6B;
	h ^= h >> 13;
	h *= 0xC2B2AE35;
	h ^= h >> 16;
	return h;
}

static __always_inline int decide_tunnel(struct xdp_md *ctx, struct packet *p, const struct iface *iface,
					 const struct local *vip, struct target *t, struct pin **via)
{
	p->side = SIDE_TUNNEL;
	if (!(iface->roles & ROLE_TUNNEL))
		return DROP_ROLE;
	if (bad_source(&p->ip))
		return DROP_SOURCE;
	p->proto = p->ip.proto;
	p->fragment = p->ip.fragment;
	p->ports = p->ip.ports;
	p->endpoint = p->ip.src;
	p->endpoint_port = p->ip.sport;
	p->service_port = p->ip.dport;
	if (p->proto == (p->ip.v6 ? 58 : 1)) {
		int r = read_icmp(ctx, p);
		if (r)
			return r;
	}
	__u32 match = service_find(p, vip);
	p->service = match;
	if (!p->service || p->service > MAX_SERVICES)
		return DROP_NO_SERVICE;
	struct pin *pin = pin_find(p, vip);
	if (pin) {
		*via = pin;
		*t = pin->target;
		return t->drop;
	}
	p->key_port = 0;
	if ((match & MATCH_MANY) && (match & MATCH_ANY))
		return DROP_AMBIGUOUS;
	if (!(match & MATCH_RING))
		return DROP_UNKNOWN;
	__u32 slot = p->service * RING_SIZE + hash_addr(&p->endpoint) % RING_SIZE;
	struct target *r = bpf_map_lookup_elem(&td_rings, &slot);
	if (!r)
		return DROP_UNKNOWN;
	p->hashed = 1;
	*t = *r;
	return t->drop;
}

static __always_inline int decide_subnet(struct packet *p, const struct iface *iface, const struct local *own,
					 struct target *t)
{
	if (own || !(iface->roles & ROLE_SUBNET))
		return PASS_LOCAL;
	if (!(p->ask & ASK_TENANT)) {
		struct vlan_key k = { .ifindex = p->ifindex, .vlan = p->vlan };
		__u32 *tenant = bpf_map_lookup_elem(&td_vlans, &k);
		if (!tenant || p->ask)
			return PASS_LOCAL;
		p->tenant = *tenant;
	}
	if (!subnet_find(p, t))
		return PASS_LOCAL;
	p->side = SIDE_SUBNET;
	if (bad_source(&p->ip))
		return DROP_SOURCE;
	return t->cover ? DROP_COVER : t->drop;
}

/* Rule 13. */
static __always_inline struct server *server_choose(struct packet *p, const struct target *t)
{
	__u32 i = t->primary;
	struct server *s = bpf_map_lookup_elem(&td_servers, &i);

	if (!i || !s || !s->alive) {
		i = t->backup;
		s = bpf_map_lookup_elem(&td_servers, &i);
		if (!i || !s || !s->alive)
			return 0;
		p->backup = 1;
	}
	p->index = i;
	return s;
}

/* Rule 15. A router that the server stands behind may send what comes from sites, too; but under dr it would get the same packet back. */
static __always_inline bool loops(const struct packet *p, const struct server *s, const struct link *l)
{
	return (l->neighbour || s->method != METHOD_IPIP) && mac_equal(p->smac, l->mac);
}

/* Rules 14 to 17. *mtu: the longest packet that the sender may send. */
static __always_inline int check(const struct packet *p, const struct server *s, const struct link *l, __u32 *mtu)
{
	__u32 outer = 0, path = s->mtu ? s->mtu : l->mtu;
	bool known = l->known && l->tag == (p->ip.v6 ? s->tag6 : s->tag4);

	if (p->ip.hops <= 1)
		return DROP_HOPS;
	if (known && loops(p, s, l))
		return DROP_LOOP;
	if (!known)
		return DROP_NO_NEIGHBOUR;
	if (s->method == METHOD_IPIP) {
		if (p->ip.v6 ? !s->has6 : !s->addr4)
			return DROP_NO_NEIGHBOUR;
		outer = p->ip.v6 ? 40 : 20;
	}
	*mtu = path > outer ? path - outer : 0;
	return p->ip.len > *mtu ? DROP_TOO_BIG : FORWARDED;
}

struct way {
	struct server *server;
	struct link *link;
	struct pin *pin;
	__u32 mtu;
};

static __always_inline int decide(struct xdp_md *ctx, struct packet *p, const struct iface *iface, struct way *w)
{
	struct target t = {};
	struct local *dst = local_find(&p->ip.dst, p->ip.v6);
	int r = dst && dst->vip ? decide_tunnel(ctx, p, iface, dst, &t, &w->pin) :
				 decide_subnet(p, iface, dst, &t);

	if (r)
		return r;
	w->server = server_choose(p, &t);
	if (!w->server)
		return DROP_DEAD;
	__u32 i = 2 * p->index + p->ip.v6;
	w->link = bpf_map_lookup_elem(&td_links, &i);
	if (!w->link)
		return DROP_NO_NEIGHBOUR;
	return check(p, w->server, w->link, &w->mtu);
}
