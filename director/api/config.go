package api

import (
	"context"
	"net/http"

	"tunneldirector/affinity"
)

type namePath struct {
	Name string `path:"name" maxLength:"128"`
}

type changedOutput struct {
	Status int
	Body   Changed
}

// change asks for one change of the configuration.
func (s *Server) change(ctx context.Context, op affinity.Op) (*changedOutput, error) {
	res, err := s.do(ctx, op)
	if err != nil {
		return nil, err
	}
	out := &changedOutput{Status: http.StatusOK, Body: Changed{
		Changed: res.Changed || res.Created, Revision: revision(s.d.Table(), res.Revision), Warnings: res.Warnings,
	}}
	if res.Created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// sameName fills in or compares the name that a body repeats.
func sameName(body *string, path string) error {
	if *body == "" {
		*body = path
	}
	if *body != path {
		return invalid("name", *body, "is not the name in the path, "+clip(path), "leave it out, or make both the same")
	}
	return nil
}

func (s *Server) registerConfig() {
	register(s, op{id: "check-records", method: http.MethodPost, path: "/v1/check", needs: needsOperator, body: CheckRequest{},
		summary: "Tell what would become of services, tenants and real servers if they were put together, and change nothing"}, s.checkRecords)
	register(s, op{id: "list-services", method: http.MethodGet, path: "/v1/services", needs: needsRead, summary: "Virtual services"}, s.listServices)
	register(s, op{id: "get-service", method: http.MethodGet, path: "/v1/services/{name}", needs: needsRead, summary: "One virtual service"}, s.getService)
	register(s, op{id: "put-service", method: http.MethodPut, path: "/v1/services/{name}", needs: needsOperator, created: true, body: Service{},
		summary: "Create or replace a virtual service"}, s.putService)
	register(s, op{id: "delete-service", method: http.MethodDelete, path: "/v1/services/{name}", needs: needsOperator,
		summary: "Delete a virtual service that nothing names"}, s.deleteService)
	register(s, op{id: "list-tenants", method: http.MethodGet, path: "/v1/tenants", needs: needsRead, summary: "Tenants"}, s.listTenants)
	register(s, op{id: "get-tenant", method: http.MethodGet, path: "/v1/tenants/{name}", needs: needsRead, summary: "One tenant"}, s.getTenant)
	register(s, op{id: "put-tenant", method: http.MethodPut, path: "/v1/tenants/{name}", needs: needsOperator, created: true, body: Tenant{},
		summary: "Create or replace a tenant; the one of tunnels that name none is called default"}, s.putTenant)
	register(s, op{id: "delete-tenant", method: http.MethodDelete, path: "/v1/tenants/{name}", needs: needsOperator,
		summary: "Delete a tenant that no tunnel names"}, s.deleteTenant)
}

// ServiceList is all services.
type ServiceList struct {
	Services []ServiceState `json:"services"`
	Revision string         `json:"revision"`
}

type servicesOutput struct{ Body ServiceList }
type serviceOutput struct{ Body ServiceState }

func (s *Server) listServices(context.Context, *struct{}) (*servicesOutput, error) {
	out := ServiceList{Services: []ServiceState{}, Revision: s.revisionNow()}
	t := s.d.Table()
	for _, svc := range t.Services() {
		out.Services = append(out.Services, serviceState(t, svc))
	}
	return &servicesOutput{out}, nil
}

func (s *Server) getService(_ context.Context, in *namePath) (*serviceOutput, error) {
	t := s.d.Table()
	svc, ok := t.Service(in.Name)
	if !ok {
		return nil, notFound("service", in.Name)
	}
	return &serviceOutput{serviceState(t, svc)}, nil
}

func (s *Server) putService(ctx context.Context, in *namePath) (*changedOutput, error) {
	var w Service
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	if err := sameName(&w.Name, in.Name); err != nil {
		return nil, err
	}
	rec, f := w.record()
	if p := f.problem("service " + in.Name); p != nil {
		return nil, p
	}
	return s.change(ctx, affinity.PutService{By: callerOf(ctx).actor(), Service: rec})
}

func (s *Server) deleteService(ctx context.Context, in *namePath) (*changedOutput, error) {
	return s.change(ctx, affinity.DeleteService{By: callerOf(ctx).actor(), Name: in.Name})
}

// TenantList is all tenants.
type TenantList struct {
	Tenants  []TenantState `json:"tenants"`
	Revision string        `json:"revision"`
}

type tenantsOutput struct{ Body TenantList }
type tenantOutput struct{ Body TenantState }

func (s *Server) listTenants(context.Context, *struct{}) (*tenantsOutput, error) {
	out := TenantList{Tenants: []TenantState{}, Revision: s.revisionNow()}
	for _, n := range s.d.Table().Tenants() {
		out.Tenants = append(out.Tenants, tenantState(n))
	}
	return &tenantsOutput{out}, nil
}

func (s *Server) getTenant(_ context.Context, in *namePath) (*tenantOutput, error) {
	n, ok := s.d.Table().Tenant(tenantName(in.Name))
	if !ok {
		return nil, notFound("tenant", in.Name)
	}
	return &tenantOutput{tenantState(n)}, nil
}

func (s *Server) putTenant(ctx context.Context, in *namePath) (*changedOutput, error) {
	var w Tenant
	if err := readObject(ctx, &w); err != nil {
		return nil, err
	}
	if err := sameName(&w.Name, in.Name); err != nil {
		return nil, err
	}
	rec, f := w.record()
	if p := f.problem("tenant " + in.Name); p != nil {
		return nil, p
	}
	return s.change(ctx, affinity.PutTenant{By: callerOf(ctx).actor(), Tenant: rec})
}

func (s *Server) deleteTenant(ctx context.Context, in *namePath) (*changedOutput, error) {
	return s.change(ctx, affinity.DeleteTenant{By: callerOf(ctx).actor(), Name: tenantName(in.Name)})
}
