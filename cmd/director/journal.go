package main

import (
	"context"
	"time"

	loop "tunneldirector/director"
	"tunneldirector/director/config"
)

// stopWords are the last event of a run.
func stopWords(err error) string {
	if err != nil {
		return "stops, and the kernel goes on forwarding: " + err.Error()
	}
	return "stops, and the kernel goes on forwarding"
}

// alarmsOf reads what needs a person.
func alarmsOf(d *loop.Director) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		st, err := d.View().Status(ctx)
		return st.Alarms, err
	}
}

// certificates tell when those end that this director shows, as they are at the time of asking.
func certificates(cfg config.Config, a agents, others *joined) func() map[string]time.Time {
	return func() map[string]time.Time {
		ends := map[string]time.Time{}
		if a.own != nil {
			ends["agents"] = a.own.Expires()
		}
		if others != nil {
			ends["cluster"] = others.own.Expires()
		}
		if cfg.API.TLS.Cert != "" {
			if end, err := expiry(cfg.API.TLS.Cert); err == nil {
				ends["api"] = end
			}
		}
		return ends
	}
}
