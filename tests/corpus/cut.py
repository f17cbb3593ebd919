"""Cuts captured sessions into turns as the kernel side does, and writes the corpus.

cut.py OUTPUT PORT:CAPTURE:SESSIONS...; the first line of the output names variations and texts, the others hold one session each.
"""

import json
import struct
import sys


def packets(path):
    """Time in nanoseconds, and the bytes of each packet from the Ethernet header on."""
    data = open(path, "rb").read()
    unit = 1 if struct.unpack("<I", data[:4])[0] == 0xA1B23C4D else 1000
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, captured, _ = struct.unpack("<IIII", data[at:at + 16])
        yield seconds * 10**9 + fraction * unit, data[at + 16:at + 16 + captured]
        at += 16 + captured


class Cut:
    """The turns of one connection."""

    def __init__(self, expected):
        self.expected = {"client": expected, "server": 0}
        # Begin, first byte of the server, last data, bytes of client and server.
        self.turns = []
        self.last = None
        self.hello = None

    def segment(self, side, time, sequence, size, start):
        new = (sequence + size - self.expected[side]) & 0xFFFFFFFF
        if size == 0 or new == 0 or new >= 1 << 31:
            return
        self.expected[side] = (sequence + size) & 0xFFFFFFFF
        if side == "client":
            if self.last != "client":
                self.turns.append([time, 0, time, 0, 0])
            self.turns[-1][3] += new
        else:
            if self.hello is None and start[:2] == b"\x16\x03":
                self.hello = len(self.turns) - 1
            if not self.turns:
                return
            self.turns[-1][1] = self.turns[-1][1] or time
            self.turns[-1][4] += new
        self.turns[-1][2] = time
        self.last = side


def connections(path, server_port):
    """Connections by client port; `None` for a port used twice."""
    cuts = {}
    for time, packet in packets(path):
        ip = packet[14:]
        tcp = ip[(ip[0] & 15) * 4:]
        source, destination, sequence = struct.unpack("!HHI", tcp[:8])
        header, flags = (tcp[12] >> 4) * 4, tcp[13]
        size = struct.unpack("!H", ip[2:4])[0] - (ip[0] & 15) * 4 - header
        side, port = ("client", source) if destination == server_port else ("server", destination)
        if flags & 2 and side == "client":
            cuts[port] = None if port in cuts else Cut(sequence + 1)
        elif cuts.get(port):
            if flags & 2:
                cuts[port].expected[side] = sequence + 1
            else:
                cuts[port].segment(side, time, sequence, size, tcp[header:header + 2])
    return cuts


class Numbers:
    """Numbers things in order of appearance."""

    def __init__(self):
        self.known = {}

    def of(self, thing):
        return self.known.setdefault(thing, len(self.known))


def main():
    tags, texts, lines = Numbers(), Numbers(), []
    for argument in sys.argv[2:]:
        port, capture, sessions = argument.split(":")
        cuts = connections(capture, int(port))
        for session in map(json.loads, open(sessions)):
            cut = cuts.get(session["port"])
            if not cut or cut.hello is None:
                continue
            lines.append(dict(n=session["messages"], hello=cut.hello, tags=[tags.of(tag) for tag in session["tags"]],
                              clear=[texts.of(text) for text in session["clear"]],
                              turns=[number for turn in cut.turns for number in turn[3:5]]))
    with open(sys.argv[1], "w") as output:
        for line in [dict(tags=list(tags.known), texts=list(texts.known)), *lines]:
            output.write(json.dumps(line, separators=(",", ":")) + "\n")
    print(len(lines), "sessions in", sys.argv[1], file=sys.stderr)


if __name__ == "__main__":
    main()
