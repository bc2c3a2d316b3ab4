package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

func (s *Server) registerSeen() {
	register(s, op{id: "list-seen", method: http.MethodGet, path: "/v1/seen", needs: needsRead,
		summary: "What agents on real servers see of tunnels, against what is wanted. Empty where no agent ever reported"}, s.listSeen)
	register(s, op{id: "list-orders", method: http.MethodGet, path: "/v1/orders", needs: needsRead,
		summary: "What agents were ordered to do with tunnels in the last 15 minutes, what is open first"}, s.listOrders)
}

type seenInput struct {
	State      []string `query:"state,explode" enum:"right,wrong-place,unknown,not-up" doc:"may be repeated; default: all but right"`
	RealServer string   `query:"real_server" doc:"where it is established, or pinned to"`
	Limit      int      `query:"limit" default:"1000" minimum:"1" maximum:"100000"`
}

// A SeenList is what agents see.
type SeenList struct {
	Seen []SeenTunnel `json:"seen"`
	More bool         `json:"more" doc:"there are more than limit; which of them are here is by chance"`
}

type seenOutput struct{ Body SeenList }

func (s *Server) listSeen(ctx context.Context, in *seenInput) (*seenOutput, error) {
	var f faults
	f.realServer(s.d.Table(), in.RealServer)
	if p := f.problem("the query"); p != nil {
		return nil, p
	}
	if len(in.State) == 0 {
		in.State = []string{SeenWrong, SeenUnknown, SeenNot}
	}
	out := SeenList{Seen: []SeenTunnel{}}
	v, ok := s.d.View().(Observed)
	if !ok {
		return &seenOutput{out}, nil
	}
	err := v.Seen(ctx, in.State, func(x SeenTunnel) bool {
		if in.RealServer != "" && x.At != in.RealServer && x.Pinned != in.RealServer {
			return true
		}
		if out.More = len(out.Seen) == in.Limit; !out.More {
			out.Seen = append(out.Seen, x)
		}
		return !out.More
	})
	if err != nil {
		return nil, asProblem(err)
	}
	slices.SortFunc(out.Seen, func(a, b SeenTunnel) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Tunnel, b.Tunnel), cmp.Compare(a.At, b.At), cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Peer, b.Peer))
	})
	return &seenOutput{out}, nil
}

type ordersInput struct {
	RealServer string `query:"real_server" doc:"of whose agent"`
	Open       bool   `query:"open" doc:"only those that more is to come of"`
	Limit      int    `query:"limit" default:"1000" minimum:"1" maximum:"100000"`
}

// An OrderList is what agents were ordered to do.
type OrderList struct {
	Orders []Order `json:"orders"`
	More   bool    `json:"more" doc:"there are more than limit"`
}

type ordersOutput struct{ Body OrderList }

func (s *Server) listOrders(_ context.Context, in *ordersInput) (*ordersOutput, error) {
	var f faults
	f.realServer(s.d.Table(), in.RealServer)
	if p := f.problem("the query"); p != nil {
		return nil, p
	}
	out := OrderList{Orders: []Order{}}
	v, ok := s.d.View().(Observed)
	if !ok {
		return &ordersOutput{out}, nil
	}
	for _, o := range v.Orders(in.RealServer) {
		if in.Open && !o.open() {
			continue
		}
		if out.More = len(out.Orders) == in.Limit; out.More {
			break
		}
		out.Orders = append(out.Orders, o)
	}
	return &ordersOutput{out}, nil
}

// open tells whether more is to come of an order.
func (o *Order) open() bool {
	return slices.Contains([]string{"unsent", "sent", "queued", "trying"}, o.Outcome)
}

// A SeenFilter says what to list of what agents see. Zero values are the director's defaults.
type SeenFilter struct {
	States     []string
	RealServer string
	Limit      int
}

// Seen reads what agents see of tunnels, against what is wanted.
func (c *Client) Seen(ctx context.Context, f SeenFilter) (SeenList, error) {
	q := listQuery(f.RealServer, f.Limit)
	for _, s := range f.States {
		q.Add("state", s)
	}
	return call[SeenList](ctx, c, http.MethodGet, "/v1/seen", q, nil)
}

// Orders reads what agents were ordered to do: the agent of one real server, or ("") all.
func (c *Client) Orders(ctx context.Context, realServer string, open bool, limit int) (OrderList, error) {
	q := listQuery(realServer, limit)
	if open {
		q.Set("open", "true")
	}
	return call[OrderList](ctx, c, http.MethodGet, "/v1/orders", q, nil)
}

func listQuery(realServer string, limit int) url.Values {
	q := url.Values{}
	if realServer != "" {
		q.Set("real_server", realServer)
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return q
}
