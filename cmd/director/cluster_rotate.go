package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tunneldirector/cmd/console"
	"tunneldirector/director/api"
)

// rotateEvery is how often it is asked whether all directors have got a change.
const rotateEvery = 500 * time.Millisecond

// A rotation replaces the key:
//
//	add ──▶ all have it ──▶ use ──▶ all seal with it ──▶ remove ──▶ none has the old one
type rotation struct {
	t     *talk
	every time.Duration
}

func (r *rotation) run(ctx context.Context) error {
	if err := r.allAlive(ctx); err != nil {
		return err
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return err
	}
	old, err := primary(keys)
	if err != nil {
		return err
	}
	if len(keys) > 1 {
		return fmt.Errorf("there are %d keys already, a change is under way: end it with director cluster keyring use and remove; %s seals now", len(keys), old)
	}
	fresh, err := r.step(ctx, api.KeyringRequest{Do: api.KeyAdd}, func(k api.KeyInfo) bool { return len(k.On) > 0 && len(k.Missing) == 0 })
	if err != nil {
		return err
	}
	_, err = r.step(ctx, api.KeyringRequest{Do: api.KeyUse, Fingerprint: fresh}, func(k api.KeyInfo) bool {
		return len(k.Missing) == 0 && len(k.PrimaryOn) == len(k.On)
	})
	if err != nil {
		return err
	}
	_, err = r.step(ctx, api.KeyringRequest{Do: api.KeyRemove, Fingerprint: old}, func(k api.KeyInfo) bool { return len(k.On) == 0 })
	return err
}

// allAlive refuses while a director would miss the change.
func (r *rotation) allAlive(ctx context.Context) error {
	ctx, cancel := r.t.limited(ctx)
	defer cancel()
	st, err := r.t.client.Cluster(ctx)
	if err != nil {
		return err
	}
	var dead []string
	for _, m := range st.Members {
		if m.State == api.MemberDead {
			dead = append(dead, m.Name)
		}
	}
	if len(dead) > 0 {
		return console.Coded(console.ExitRefused, fmt.Errorf("nothing was changed: %s dead, and would not get the new key; start it, or if it is scrapped: director cluster forget", is(dead)))
	}
	return nil
}

func is(names []string) string {
	if len(names) == 1 {
		return "director " + names[0] + " is"
	}
	return "directors " + strings.Join(names, ", ") + " are"
}

func (r *rotation) keys(ctx context.Context) ([]api.KeyInfo, error) {
	ctx, cancel := r.t.limited(ctx)
	defer cancel()
	return r.t.client.Keyring(ctx)
}

// step makes a change and waits until all directors have it.
func (r *rotation) step(ctx context.Context, do api.KeyringRequest, done func(api.KeyInfo) bool) (fingerprint string, err error) {
	limited, cancel := r.t.limited(ctx)
	defer cancel()
	if fingerprint, err = r.t.client.ChangeKeyring(limited, do); err != nil {
		return "", fmt.Errorf("%s a key: %w", do.Do, err)
	}
	var last api.KeyInfo
	for {
		list, failed := r.t.client.Keyring(limited)
		if limited.Err() == nil { // else it is no answer that the time was over
			err = failed
		}
		if failed == nil {
			last = api.KeyInfo{}
			if i := slices.IndexFunc(list, func(k api.KeyInfo) bool { return k.Fingerprint == fingerprint }); i >= 0 {
				last = list[i]
			}
			if done(last) {
				return fingerprint, r.t.Show(keyringLine{Do: do.Do, Fingerprint: fingerprint}, func(p *console.Page) { p.Line(keyringWords[do.Do], fingerprint) })
			}
		}
		select {
		case <-time.After(r.every):
		case <-limited.Done():
			return "", errors.Join(fmt.Errorf("%s key %s: not done on all directors within %s: has it: %s; lacks it: %s; the directors go on as they are: see director cluster keyring list",
				do.Do, fingerprint, r.t.Duration(flagTimeout), strings.Join(last.On, " "), strings.Join(last.Missing, " ")), err)
		}
	}
}
