package main

import (
	"fmt"
	"strings"

	"tunneldirector/director/api"
)

// lockedOut refuses a change of the ring after which somebody seals with a key that another one cannot open, or would when it is
// back; nil: nobody does. Force has it done all the same, but a key that seals is never removed.
func lockedOut(c api.KeyringChange, list []api.KeyInfo) *api.Problem {
	refuse := func(format string, args ...any) *api.Problem {
		return api.Conflict(fmt.Sprintf(format, args...))
	}
	for _, k := range list {
		switch {
		case c.Do == api.KeyRemove && k.Fingerprint == c.Fingerprint && len(k.PrimaryOn) > 0:
			return refuse("key %s seals on %s: have another one seal first, director cluster keyring use KEY", k.Fingerprint, strings.Join(k.PrimaryOn, ", "))
		case c.Force || len(k.Missing) == 0:
		case c.Do == api.KeyUse && k.Fingerprint == c.Fingerprint, c.Do == api.KeyRemove && len(k.PrimaryOn) > 0:
			return refuse("%s without key %s, or dead, and would be locked out; start it, or, if it is scrapped, director cluster forget; or --force", is(k.Missing), k.Fingerprint)
		}
	}
	return nil
}
