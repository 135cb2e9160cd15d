"""Sends SYNs to random hosts of a network at a rate: a worm's scanner, as Mirai's is described.

    python sweep.py NETWORK PORTS RATE COUNT SEED

Hosts in random order, again and again; nine in ten times the first port, else one of the others;
one source port for all; the target's address as sequence number (M. Antonakakis et al.,
*Understanding the Mirai Botnet*, USENIX Security 2017, section 3). Needs a raw socket; nothing of
the project is imported, because it runs in a host's namespace with nothing but Python.
"""

import ipaddress
import random
import socket
import struct
import sys
import time


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def segment(source: bytes, target: bytes, ports: tuple[int, int], window: int) -> bytes:
    """Return a SYN without options whose sequence number is its target's address."""
    head = struct.pack("!HH4sIBBHHH", *ports, target, 0, 0x50, 2, window, 0, 0)
    pseudo = source + target + struct.pack("!BBH", 0, 6, len(head))
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def main() -> None:
    network, ports, rate, count, seed = sys.argv[1:]
    rng = random.Random(int(seed))
    hosts = [host.packed for host in ipaddress.IPv4Network(network).hosts()]
    wanted = [int(port) for port in ports.split(",")]
    own, window = rng.randrange(1024, 65536), rng.randrange(65536)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((str(ipaddress.IPv4Address(hosts[0])), 9))
        source = socket.inet_aton(probe.getsockname()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        due = time.monotonic()
        for _ in range(int(count)):
            target = rng.choice(hosts)
            port = wanted[0] if rng.random() < 0.9 else rng.choice(wanted)
            if target != source:
                data = segment(source, target, (own, port), window)
                raw.sendto(data, (socket.inet_ntoa(target), 0))
            due += 1 / float(rate)
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
