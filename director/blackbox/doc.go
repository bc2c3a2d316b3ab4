// Package blackbox keeps the last packets that a director dropped, and writes them down when something happens that somebody
// will ask about.
//
// Samples of dropped packets come from the data plane all the time, a few of each reason. The last ones of each reason are in a
// ring in memory: a flood of one kind pushes out no other. On a trigger the ring and the samples of the next seconds are
// written as one pcapng file, each packet with a comment that says what became of it and why, which any Wireshark shows.
// Triggers are
//
//	loop         a packet was dropped because it came back from the real server to which it would go
//	drops        drops of one reason have jumped
//	real-server  a real server was lost
//	operator     somebody asked
//
// What triggers while a recording goes on becomes a part of it. One trigger about one thing makes a recording at most once a
// minute, and all recordings are as large as configured at most, those of drops, which anybody outside can cause, half of that,
// and a thousand at most: the oldest go first, and before them those that a wrong clock has put into the future. A disk that is full ends a recording, and nothing else.
//
// A file is <id>.pcapng, and <id>.pcapng.part as long as it is written: one that a crash has left ends early, maybe within a
// packet. The comment of its section is why it began. The first interface stands for the director: no packet came in by it,
// and its comment is the object of the trigger. A packet's first comment is what became of it; what triggers is told by
// further comments of the next packet, or of the last one if none follows.
//
// One goroutine owns the ring and the files. The package must not know the table, the loop or a plane's kernel.
package blackbox
