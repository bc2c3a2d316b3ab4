package api

import (
	"context"
	"net/http"
	"net/url"
)

// Services reads all services.
func (c *Client) Services(ctx context.Context) ([]ServiceState, error) {
	l, err := call[ServiceList](ctx, c, http.MethodGet, "/v1/services", nil, nil)
	return l.Services, err
}

// Service reads one service.
func (c *Client) Service(ctx context.Context, name string) (ServiceState, error) {
	return call[ServiceState](ctx, c, http.MethodGet, "/v1/services/"+url.PathEscape(name), nil, nil)
}

// PutService creates or replaces a service.
func (c *Client) PutService(ctx context.Context, s Service) (Changed, error) {
	return call[Changed](ctx, c, http.MethodPut, "/v1/services/"+url.PathEscape(s.Name), nil, s)
}

// DeleteService deletes a service that nothing names.
func (c *Client) DeleteService(ctx context.Context, name string) (Changed, error) {
	return call[Changed](ctx, c, http.MethodDelete, "/v1/services/"+url.PathEscape(name), nil, nil)
}

// Tenants reads all tenants.
func (c *Client) Tenants(ctx context.Context) ([]TenantState, error) {
	l, err := call[TenantList](ctx, c, http.MethodGet, "/v1/tenants", nil, nil)
	return l.Tenants, err
}

// PutTenant creates or replaces a tenant; the name "" is the default tenant's.
func (c *Client) PutTenant(ctx context.Context, n Tenant) (Changed, error) {
	n.Name = tenantWord(n.Name)
	return call[Changed](ctx, c, http.MethodPut, "/v1/tenants/"+url.PathEscape(n.Name), nil, n)
}

// DeleteTenant deletes a tenant that no tunnel names.
func (c *Client) DeleteTenant(ctx context.Context, name string) (Changed, error) {
	return call[Changed](ctx, c, http.MethodDelete, "/v1/tenants/"+url.PathEscape(tenantWord(name)), nil, nil)
}

// RealServers reads all real servers.
func (c *Client) RealServers(ctx context.Context) ([]RealServerState, error) {
	l, err := call[RealServerList](ctx, c, http.MethodGet, "/v1/realservers", nil, nil)
	return l.RealServers, err
}

// RealServer reads one real server.
func (c *Client) RealServer(ctx context.Context, name string) (RealServerState, error) {
	return call[RealServerState](ctx, c, http.MethodGet, realServerPath(name), nil, nil)
}

func realServerPath(name string) string { return "/v1/realservers/" + url.PathEscape(name) }

// PutRealServer creates or replaces a real server.
func (c *Client) PutRealServer(ctx context.Context, r RealServer) (Changed, error) {
	return call[Changed](ctx, c, http.MethodPut, realServerPath(r.Name), nil, r)
}

// SetWeight changes a real server's weight.
func (c *Client) SetWeight(ctx context.Context, name string, weight uint32) (Changed, error) {
	return call[Changed](ctx, c, http.MethodPatch, realServerPath(name), nil, WeightPatch{&weight})
}

// Drain lets a real server take no new tunnels, and moves those that it has if r says how fast or until when.
func (c *Client) Drain(ctx context.Context, name string, r DrainRequest) (Changed, error) {
	var body any
	if r != (DrainRequest{}) {
		body = r
	}
	return call[Changed](ctx, c, http.MethodPost, realServerPath(name)+"/drain", nil, body)
}

// Undrain lets a real server take new tunnels again, and ends a drain.
func (c *Client) Undrain(ctx context.Context, name string) (Changed, error) {
	return call[Changed](ctx, c, http.MethodPost, realServerPath(name)+"/undrain", nil, nil)
}

// DeleteRealServer removes a real server; force: its tunnels are placed anew.
func (c *Client) DeleteRealServer(ctx context.Context, name string, force bool) (Changed, error) {
	return call[Changed](ctx, c, http.MethodDelete, realServerPath(name), flags(map[string]bool{"force": force}), nil)
}

func flags(set map[string]bool) url.Values {
	q := url.Values{}
	for k, on := range set {
		if on {
			q.Set(k, "true")
		}
	}
	return q
}

// Repin moves a group: "@NAME", or the id of a tunnel that is alone.
func (c *Client) Repin(ctx context.Context, group string, r RepinRequest) (RepinAnswer, error) {
	return call[RepinAnswer](ctx, c, http.MethodPost, "/v1/groups/"+url.PathEscape(group)+"/repin", nil, r)
}

// Freeze stops automatic moves, or allows them again.
func (c *Client) Freeze(ctx context.Context, on bool) error {
	method := http.MethodDelete
	if on {
		method = http.MethodPut
	}
	_, err := call[Frozen](ctx, c, method, "/v1/freeze", nil, nil)
	return err
}
