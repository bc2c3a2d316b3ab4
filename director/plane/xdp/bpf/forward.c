// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/* The forwarder and its twin. director/plane/packet.go has the packet's way, rule by rule; the comments here give its
 * numbers. */
#include "deliver.h"
#include "sample.h"

static __always_inline void count_traffic(const struct packet *p)
{
	__u32 i = p->index, service = p->side == SIDE_TUNNEL ? p->service : 0;
	struct traffic *t = bpf_map_lookup_elem(&td_n_server, &i);

	if (t) {
		t->packets++;
		t->bytes += p->ip.len;
	}
	t = bpf_map_lookup_elem(&td_n_service, &service);
	if (t) {
		t->packets++;
		t->bytes += p->ip.len;
	}
}

static __always_inline void count_reason(const struct packet *p, int reason)
{
	__u32 i = p->service * REASONS + (reason & (REASONS - 1));
	__u64 *n = bpf_map_lookup_elem(&td_n_reason, &i);

	if (n)
		(*n)++;
}

static __always_inline int walk(struct xdp_md *ctx, struct packet *p, struct iface **iface, struct way *w)
{
	*iface = bpf_map_lookup_elem(&td_ifaces, &p->ifindex);
	if (!*iface)
		return PASS_LOCAL;
	int r = parse(ctx, *iface, p);
	return r ? r : decide(ctx, p, *iface, w);
}

SEC("xdp.frags")
int td_forward(struct xdp_md *ctx)
{
	struct packet p = { .ifindex = ctx->ingress_ifindex };
	struct iface *iface;
	struct way w = {};
	int reason = walk(ctx, &p, &iface, &w);

	if (!reason && w.server && w.link) {
		if (watch_on())
			show(ctx, &p, FORWARDED);
		int action = deliver(ctx, &p, &w);
		if (action != XDP_ABORTED) {
			count_traffic(&p);
			if (w.pin)
				pin_seen(w.pin);
			return action;
		}
		/* no headroom, or no such device any more: neither is the sender's fault, but nobody gets the packet; it is
		 * shown as far as it has been rewritten */
		reason = DROP_NO_NEIGHBOUR;
	}
	count_reason(&p, reason);
	if (drops(reason) || watch_on())
		show(ctx, &p, reason);
	if (reason == DROP_TOO_BIG && iface)
		return tell_too_big(ctx, &p, iface, w.mtu);
	return reason >= PASS_NOT_IP ? XDP_PASS : XDP_DROP;
}

/* The same walk over the same maps for a frame made up by user space. It changes nothing but the frame's metadata,
 * which brings the ingress interface in and takes the decision out. */
SEC("xdp.frags")
int td_explain(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct answer *a = (void *)(long)ctx->data_meta;
	struct iface *iface;
	struct way w = {};

	if ((void *)(a + 1) > data)
		return XDP_ABORTED;
	struct packet p = { .ifindex = a->ifindex, .ask = a->flags, .tenant = a->tenant };
	int reason = walk(ctx, &p, &iface, &w);
	a->reason = reason;
	a->side = p.side;
	a->flags = p.backup | p.hashed << 1 | p.matched << 2;
	a->bits = p.bits;
	a->index = p.index;
	a->service = p.service;
	a->port = p.key_port;
	a->tenant = p.tenant;
	a->endpoint = p.endpoint;
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
