package main

// devicesOf are the devices at which a real server's packets are taken out of IPIP: those that are named, or those that apply makes.
func devicesOf(s *RealServer) []string {
	if len(s.Devices) > 0 {
		return s.Devices
	}
	return []string{"td4-" + s.Name, "td6-" + s.Name}
}

// longest is how long a real server's name may be for the names of these devices.
const longest = 15 - len("td4-")
