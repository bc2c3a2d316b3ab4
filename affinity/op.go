package affinity

// An Op is one wanted change. Each is applied whole or refused whole.
type Op interface {
	// Asks is who wants it.
	Asks() Actor
}

// An Actor is who asks for a change.
type Actor struct {
	Name string // of the token; the owner of the tunnels it pushes
	Any  bool   // an operator: may change what others own
}

// The changes that can be asked for.
type (
	// PutTunnel creates or replaces a tunnel. Header, Owner and Created are filled in by the director.
	PutTunnel struct {
		By     Actor
		Tunnel *Tunnel
		// Unless names the stamp of the record that the caller saw, 0: saw none: a record that is newer is left alone. Nil: no condition.
		Unless *Stamp
		// Transient lets claims be contested for now: the caller is in the middle of a complete set and has checked its final state.
		Transient bool
	}
	// DeleteTunnel deletes a tunnel. A tunnel that does not exist is no error.
	DeleteTunnel struct {
		By         Actor
		ID         string
		Generation uint64 // 0: not said; lower than known is refused
		Unless     *Stamp
	}
	// PutService creates or replaces a service.
	PutService struct {
		By      Actor
		Service *Service
	}
	// DeleteService deletes a service that no tunnel and no real server names.
	DeleteService struct {
		By   Actor
		Name string
	}
	// PutTenant creates or replaces a tenant.
	PutTenant struct {
		By     Actor
		Tenant *Tenant
	}
	// DeleteTenant deletes a tenant that no tunnel names.
	DeleteTenant struct {
		By   Actor
		Name string
	}
	// PutRealServer creates or replaces a real server.
	PutRealServer struct {
		By         Actor
		RealServer *RealServer
	}
	// DeleteRealServer removes a real server that no pin names, or, by force, one that is dead or drained: its groups are placed anew.
	DeleteRealServer struct {
		By    Actor
		Name  string
		Force bool
	}
	// SetAdmin drains or undrains a real server. Draining takes no new pins; what there is moves only by a Drain, whose Started
	// and Of are filled in by the director.
	SetAdmin struct {
		By    Actor
		Name  string
		Admin Admin
		Drain *Drain
	}
	// Repin moves a group, at once, to a named real server, or to whichever is best ("").
	Repin struct {
		By    Actor
		Group GroupID
		To    string
		Why   Why
		// Idle: refuse if the group is up.
		Idle bool
	}
	// SetFreeze stops automatic moves, or allows them again.
	SetFreeze struct {
		By Actor
		On bool
	}
)

// Asks is who wants it.
func (o PutTunnel) Asks() Actor { return o.By }

// Asks is who wants it.
func (o DeleteTunnel) Asks() Actor { return o.By }

// Asks is who wants it.
func (o PutService) Asks() Actor { return o.By }

// Asks is who wants it.
func (o DeleteService) Asks() Actor { return o.By }

// Asks is who wants it.
func (o PutTenant) Asks() Actor { return o.By }

// Asks is who wants it.
func (o DeleteTenant) Asks() Actor { return o.By }

// Asks is who wants it.
func (o PutRealServer) Asks() Actor { return o.By }

// Asks is who wants it.
func (o DeleteRealServer) Asks() Actor { return o.By }

// Asks is who wants it.
func (o SetAdmin) Asks() Actor { return o.By }

// Asks is who wants it.
func (o Repin) Asks() Actor { return o.By }

// Asks is who wants it.
func (o SetFreeze) Asks() Actor { return o.By }

// A Result answers an Op.
type Result struct {
	Err      error    // a *Refusal, or nil
	Changed  bool     // false: it was so already
	Created  bool     // it did not exist
	Group    GroupID  // of a tunnel's change
	Pin      Pin      // where that group is now; Primary 0: unplaced, Note says why
	Revision uint64   // the table's, with this change in it
	Warnings []string // accepted, but the caller should know
}
