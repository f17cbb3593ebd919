"""Writes a long recording to stdout: the connections of real ones over and over, with other ids, times and addresses.

    repeat_recording.py CONNECTIONS DESTINATIONS RECORDING... > long.jsonl

The connections are spread evenly over a day. It is for measuring what reading costs, not for tests of results.
"""

import json
import subprocess
import sys
import time

DAY_US = 86_400_000_000
START_US = 1_795_305_600_000_000  # 2026-11-22T00:00:00Z


def lines(path):
    text = subprocess.run(["zstd", "-dcf", path], check=True, capture_output=True).stdout
    return [json.loads(line) for line in text.splitlines()]


def template(connection):
    """The line around id, start, dst and end, and what of them does not change."""
    ipv6 = connection["family"] == "ipv6"
    line = json.dumps({**connection, "id": "@", "start": "@", "dst": "@", "end": "@"}, separators=(",", ":"))
    return line.split("@"), connection["lifetime_us"] or 0, "fd00::%x" if ipv6 else "10.0.%s"


def main():
    count, destinations = int(sys.argv[1]), int(sys.argv[2])
    recordings = [lines(path) for path in sys.argv[3:]]
    templates = [template(line) for all in recordings for line in all if line["kind"] == "connection"]
    header = {**recordings[0][0], "start": "2026-11-22T00:00:00.000000Z"}
    trailer = {**recordings[0][-1], "end": "2026-11-23T01:00:00.000000Z", "connections": count}
    seconds = {}

    def utc(micros):
        second, rest = divmod(micros, 1_000_000)
        if second not in seconds:
            if len(seconds) > 10_000:
                seconds.clear()
            seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return "%s.%06dZ" % (seconds[second], rest)

    out = sys.stdout
    out.write(json.dumps(header, separators=(",", ":")) + "\n")
    for n in range(count):
        (a, b, c, d, e), lifetime, address = templates[n % len(templates)]
        start = START_US + n * DAY_US // count
        to = n * 7919 % destinations
        dst = address % (to if ":" in address else "%d.%d" % (to >> 8, to & 255))
        out.write("%s%016x%s%s%s%s%s%s%s\n" % (a, n, b, utc(start), c, dst, d, utc(start + lifetime), e))
    out.write(json.dumps(trailer, separators=(",", ":")) + "\n")


main()
