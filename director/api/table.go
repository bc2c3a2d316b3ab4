package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tunneldirector/affinity"
)

// TableFormat is the format of exported tables that this release writes, and reads.
const TableFormat = 1

// A TableLine is one line of an exported table: the head first, then tunnels, then the end, without which it was cut off.
type TableLine struct {
	Table  *TableHead   `json:"table,omitempty"`
	Tunnel *TableTunnel `json:"tunnel,omitempty"`
	End    *TableEnd    `json:"end,omitempty"`
}

// A TableHead is a table without its tunnels.
type TableHead struct {
	Format      int               `json:"format"`
	Director    string            `json:"director,omitempty" doc:"by which it was exported"`
	Revision    string            `json:"revision,omitempty"`
	Time        time.Time         `json:"time,omitzero"`
	Services    []Service         `json:"services"`
	Tenants     []Tenant          `json:"tenants"`
	RealServers []TableRealServer `json:"real_servers"`
}

// A TableRealServer is a real server, and how it is emptied.
type TableRealServer struct {
	RealServer
	Drain *TableDrain `json:"drain,omitempty"`
}

// A TableDrain is a drain under way.
type TableDrain struct {
	Rate     string     `json:"rate,omitempty" doc:"tunnels a second, like 20/s"`
	Deadline *time.Time `json:"deadline,omitempty"`
	Started  time.Time  `json:"started,omitzero"`
	Of       uint32     `json:"of" doc:"tunnels that it had then"`
}

// A TableTunnel is a tunnel, whose it is, and where.
type TableTunnel struct {
	Tunnel
	Owner     string   `json:"owner,omitempty"`
	Pinned    *Pinned  `json:"pinned,omitempty" doc:"where its group is placed: for information, unless the import keeps placements"`
	Contested []string `json:"contested,omitempty" doc:"claims that another group holds"`
}

// Pinned are a group's real servers.
type Pinned struct {
	Primary string `json:"primary"`
	Backup  string `json:"backup,omitempty"`
}

// A TableEnd ends a table.
type TableEnd struct {
	Tunnels int `json:"tunnels" doc:"that came before"`
}

func (s *Server) registerTable() {
	register(s, op{id: "export-table", method: http.MethodGet, path: "/v1/table", needs: needsRead, answer: TableLine{}, answerType: "application/x-ndjson",
		summary: "The whole table at one moment: services, tenants, real servers with their drains, and the tunnels, without learned ones"}, s.exportTable)
	register(s, op{id: "import-table", method: http.MethodPut, path: "/v1/table", needs: needsOperator, lines: []any{TableLine{}}, answer: StreamLine{}, answerType: "application/x-ndjson",
		summary: "Make all that an exported table has so; what it does not name stays. A faulty one changes nothing"}, s.importTable)
}

func (s *Server) exportTable(ctx context.Context, _ *struct{}) (*huma.StreamResponse, error) {
	t := s.d.Table() // it never changes
	return &huma.StreamResponse{Body: func(huma.Context) {
		r, w := requestOf(ctx)
		out := newAnswers(w, r)
		err := writeTable(t, s.head(t), out.add)
		if cerr := out.close(); err == nil {
			err = cerr
		}
		s.o.Log.Info("table exported", "token", callerOf(ctx).name, "revision", revision(t, t.Revision()), "error", err)
	}}, nil
}

func (s *Server) head(t *affinity.Table) *TableHead {
	h := &TableHead{Format: TableFormat, Director: s.o.Name, Revision: revision(t, t.Revision()), Time: time.Now().UTC().Truncate(time.Second), Services: []Service{}, Tenants: []Tenant{}, RealServers: []TableRealServer{}}
	for _, x := range t.Services() {
		h.Services = append(h.Services, serviceState(t, x).Service)
	}
	for _, x := range t.Tenants() {
		h.Tenants = append(h.Tenants, tenantState(x).Tenant)
	}
	for _, x := range t.RealServers() {
		h.RealServers = append(h.RealServers, TableRealServer{realServerState(t, x, nil).RealServer, tableDrain(x.Drain)})
	}
	return h
}

func tableDrain(d *affinity.Drain) *TableDrain {
	if d == nil {
		return nil
	}
	out := &TableDrain{Deadline: timeOf(d.By), Started: d.Started.Time(), Of: d.Of}
	if d.Milli > 0 {
		out.Rate = strconv.FormatFloat(float64(d.Milli)/1000, 'f', -1, 64) + "/s"
	}
	return out
}

// record is the drain that w says.
func (w *TableDrain) record(f *faults) *affinity.Drain {
	if w == nil {
		return nil
	}
	d := &affinity.Drain{Milli: f.drainRate(w.Rate), Of: w.Of}
	if w.Started.Unix() > 0 {
		d.Started = affinity.NewStamp(w.Started, 0)
	}
	switch by := w.Deadline; {
	case by == nil:
	case by.Unix() < 0:
		f.add("drain.deadline", by.Format(time.RFC3339), "is before all time", "a time of RFC 3339, or leave it out")
	default:
		d.By = affinity.NewStamp(*by, 0)
	}
	if len(*f) == 0 && d.Milli == 0 && d.By == 0 {
		f.add("drain", "", "moves nothing, ever", "give a rate or a deadline, or leave it out")
	}
	return d
}

func writeTable(t *affinity.Table, h *TableHead, add func(any) error) (err error) {
	if err := add(TableLine{Table: h}); err != nil {
		return err
	}
	n := 0
	t.Tunnels("", func(tun *affinity.Tunnel) bool {
		if tun.Learned() { // who imports it would announce it
			return true
		}
		n++
		w := &TableTunnel{Tunnel: wireTunnel(tun), Owner: tun.Owner, Contested: t.Contested(tun)}
		if pin, ok := t.PinOf(tun); ok && pin.Primary != 0 {
			w.Pinned = &Pinned{realServerName(t, pin.Primary), realServerName(t, pin.Backup)}
		}
		err = add(TableLine{Tunnel: w})
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("after %d tunnels: %w", n, err)
	}
	return add(TableLine{End: &TableEnd{n}})
}
