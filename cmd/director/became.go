package main

import (
	"slices"
	"strings"

	"tunneldirector/director/api"
	"tunneldirector/director/plane"
)

// What became of a packet begins with one of these, in a recording's comments too: that is how they are told from others.
const (
	becameForwarded = "forwarded to real server "
	becameDropped   = "dropped: "
	becamePassed    = "left to the director's own stack: "
)

// reasonMeans says what a reason means, to who has not the code before him.
var reasonMeans = map[plane.Reason]string{
	plane.DropNoService:   "its protocol or port belongs to no service of the VIP",
	plane.DropUnknown:     "no tunnel has this endpoint, and the service drops unknown ones",
	plane.DropNoPort:      "the endpoint's tunnels are told by port, and it carries none",
	plane.DropUnplaced:    "no real server had room for the tunnel",
	plane.DropContested:   "two tunnels want the address, and its holder has no real server",
	plane.DropDead:        "primary and backup are dead",
	plane.DropCover:       "inside a prefix of the tenant, but behind no tunnel",
	plane.DropLoop:        "it came from the real server to which it would go",
	plane.DropHops:        "its TTL or hop limit is used up",
	plane.DropSource:      "its source is a VIP, an own address, loopback, unspecified or multicast",
	plane.DropTooBig:      "it does not fit the path to the real server",
	plane.DropNoNeighbour: "the real server's MAC address is not known",
	plane.DropMalformed:   "it is cut short, or its headers contradict each other",
	plane.DropAmbiguous:   "a later fragment from an unknown endpoint, for which services differ",
	plane.DropICMP:        "ICMP that is neither echo, neighbour discovery nor an error about a tunnel",
	plane.DropRole:        "it came to a VIP by an interface without the role tunnel",
	plane.PassNotIP:       "it is neither IPv4 nor IPv6",
	plane.PassMAC:         "it is not to the director's MAC address",
	plane.PassLocal:       "it is to no VIP, and behind no tunnel",
	plane.PassControl:     "echo request or neighbour discovery to a VIP",
}

// reasonNames are the names of all reasons, in alphabetical order.
func reasonNames() []string {
	var out []string
	for r := range reasonMeans {
		out = append(out, r.String())
	}
	slices.Sort(out)
	return out
}

// meansOf is what a reason means, by its name; "" for one that is not known here.
func meansOf(name string) string {
	for r, means := range reasonMeans {
		if r.String() == name {
			return means
		}
	}
	return ""
}

// becameWords says what became of a packet, and why. It is the comment of a packet in a recording, too.
func becameWords(p *api.SeenPacket) string {
	var s string
	switch p.Action {
	case "forward":
		s = becameForwarded + orWord(p.RealServer, "?")
	case "drop":
		s = becameDropped + orWord(p.Reason, "?")
	default:
		s = becamePassed + orWord(p.Reason, "?")
	}
	if p.Action != "forward" {
		if means := meansOf(p.Reason); means != "" {
			s += " (" + means + ")"
		}
		s += after(", real server ", p.RealServer)
	}
	if p.Side != "" {
		s += ", " + p.Side + " side"
	}
	return s + after(", service ", p.Service) + after(", tenant ", p.Tenant)
}

// briefly is what became of a packet without what its reason means, where that is said once for all packets.
func (p *recordedPacket) briefly() string {
	means := meansOf(p.Reason)
	if means == "" {
		return p.Became
	}
	return strings.Replace(p.Became, " ("+means+")", "", 1)
}

// becameOf finds among a packet's comments what became of it, why it was not forwarded, and what else they say.
func becameOf(comments []string) (became, reason string, notes []string) {
	for _, c := range comments {
		word, not := strings.CutPrefix(c, becameDropped)
		if !not {
			word, not = strings.CutPrefix(c, becamePassed)
		}
		switch {
		case became != "" || !not && !strings.HasPrefix(c, becameForwarded):
			notes = append(notes, c)
		case not:
			became, reason = c, word[:len(word)-len(strings.TrimLeft(word, "abcdefghijklmnopqrstuvwxyz0123456789-"))]
		default:
			became = c
		}
	}
	return became, reason, notes
}
