package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"slices"

	"tunneldirector/cluster/ca"
	"tunneldirector/director/config"
)

// machineFaults are what of this machine keeps a director from running by a configuration with a plane: all of it, each with
// the key that is concerned. It changes nothing.
func machineFaults(cfg config.Config, kind string) config.Faults {
	var out config.Faults
	add := func(path, format string, args ...any) {
		out = append(out, config.Fault{Path: path, Problem: fmt.Sprintf(format, args...)})
	}
	if _, err := readTokens(cfg); err != nil {
		add("api.tokens_file", "%v", err)
	}
	if c := cfg.API.TLS; c.Cert != "" {
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			add("api.tls", "read the certificate: %v", err)
		}
	}
	if _, err := credential(cfg, slog.New(slog.DiscardHandler)); err != nil {
		add("agents.tls", "%v", err)
	}
	if g := cfg.API.Socket.Group; cfg.API.Socket.Path != "" && g != "" {
		if _, err := user.LookupGroup(g); err != nil {
			add("api.socket.group", "%q is not a group of this machine; groupadd %s, or name another one", g, g)
		}
	}
	if config.Forwards(kind) {
		for n, i := range cfg.Interfaces {
			if _, err := net.InterfaceByName(i.Name); err != nil {
				add(fmt.Sprintf("interfaces[%d].name", n), "%q is not an interface of this machine; `ip -br link` lists those that there are", i.Name)
			}
		}
	}
	return slices.Concat(out, clusterFaults(cfg), hostFaults(cfg, kind))
}

// credential is by what agents know the director, and it them; nil where none dial in.
func credential(cfg config.Config, log *slog.Logger) (*ca.Credential, error) {
	if len(cfg.Agents.Listen) == 0 {
		return nil, nil
	}
	return ca.Open(ca.Files(cfg.Agents.TLS), ca.RoleDirector, cfg.Name, log)
}

// machineError is nil if a director can run by the configuration with a plane.
func machineError(cfg config.Config, kind string) error {
	if f := machineFaults(cfg, kind); len(f) > 0 {
		return errors.Join(fmt.Errorf("this machine cannot run director %s", cfg.Name), f)
	}
	return nil
}

// present are the configured interfaces that exist.
func present(list []config.Interface) []config.Interface {
	return slices.DeleteFunc(slices.Clone(list), func(i config.Interface) bool {
		_, err := net.InterfaceByName(i.Name)
		return err != nil
	})
}
