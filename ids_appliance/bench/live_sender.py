"""An interface, ends and a rate in, paced TCP SYNs out: of Python's own library and nothing else.

    python3 -c "$(cat live_sender.py)" INTERFACE HOP SOURCE SINK PORT RATE SECONDS

What `bench --live` runs on a generator, which has none of our packages: the text of this file goes
there by ssh. Like sender.py it keeps the pace by the clock and gives up what it cannot make good;
tools that wait between two packets offer less than they were told, whatever they were told, and no
rate of theirs is ever the requested one. HOP is the MAC of the way to the sink.

On standard output: a dot a second, so that who has gone is noticed and nothing goes on being sent,
then one JSON object with what was sent.
"""

import json
import random
import socket
import struct
import sys
import time

FRAMES = 8192
"""Different ones, sent again and again."""
ARREARS_S = 0.02
LEAST = 64
"""Frames that may be made good at once, at least."""
SPIN_NS = 200_000
"""Shorter waits are spent looking at the clock."""
_SOL_PACKET, _QDISC_BYPASS = 263, 20  # packet(7)


def words_of(octets: bytes) -> int:
    """Return the one's complement sum of an even number of octets (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def syn(chance: random.Random, ends: bytes, port: int) -> bytes:
    """Return IPv4 and TCP headers of a SYN between ends (source and sink, 8 octets)."""
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, chance.getrandbits(16), 0, 64, 6, 0) + ends
    ip = ip[:10] + struct.pack("!H", 0xFFFF - words_of(ip)) + ip[12:]
    tcp = struct.pack("!HHI", chance.randrange(1024, 65536), port, chance.getrandbits(32))
    tcp += struct.pack("!IBBHHH", 0, 0x50, 2, 512, 0, 0)
    check = 0xFFFF - words_of(ends + struct.pack("!HH", 6, len(tcp)) + tcp)
    return ip + tcp[:16] + struct.pack("!H", check) + tcp[18:]


def transmit(
    where: socket.socket, frames: list[bytes], *, pps: float, seconds: float
) -> dict[str, float]:
    """Send the frames again and again from now on, for so long; return what was sent."""
    whole, arrears = max(1, round(pps * seconds)), max(LEAST, int(pps * ARREARS_S))
    sent = refused = given_up = 0
    begin = told = time.monotonic_ns()
    while sent + given_up < whole:
        now = time.monotonic_ns()
        due = min(whole, int((now - begin) * pps / 1e9) + 1)
        given_up += max(0, due - sent - given_up - arrears)
        while sent + given_up < due:
            try:
                where.send(frames[sent % len(frames)])
            except OSError:
                refused += 1
            sent += 1
        if now - told > 10**9:
            print(".", flush=True)
            told = now
        wait = begin + (sent + given_up) * 1e9 / pps - time.monotonic_ns()
        if wait > SPIN_NS:
            time.sleep((wait - SPIN_NS / 2) / 1e9)
    took = (time.monotonic_ns() - begin) / 1e9
    return {"packets": sent, "refused": refused, "given_up": given_up, "seconds": took}


def main(arguments: list[str]) -> None:
    """Be the process."""
    interface, hop, source, sink, port, pps, seconds = arguments
    chance, ends = random.Random(0), socket.inet_aton(source) + socket.inet_aton(sink)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as where:
        where.bind((interface, 0))
        where.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        head = bytes.fromhex(hop.replace(":", "")) + where.getsockname()[4] + b"\x08\x00"
        frames = [head + syn(chance, ends, int(port)) for _ in range(FRAMES)]
        print(json.dumps(transmit(where, frames, pps=float(pps), seconds=float(seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])
