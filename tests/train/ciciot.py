"""Seeds in, a small tree of captures laid out and named as CICIoT2023 is published out."""

import random

from ids_appliance.train.readers.ciciot2023 import ATTACKS
from tests.ext import frames as f
from tests.train.captures import flood, life, write_pcap

DEVICE = bytes([192, 0, 2, 1])
ODD = {"DDoS-HTTP_Flood": "DDoS-HTTP_Flood-.pcap", "DDoS-RSTFINFlood": "DDoS-RSTFINFLOOD.pcap"}
"""Files whose published names differ from their folder's."""


def attack(rng, family, n):
    """Return frames that look a little like an attack of the family."""
    if family == "Spoofing":
        return [f.ethernet(f.arp(), f.ARP) for _ in range(n)]
    ports = {"DoS": (80,), "Mirai": (23, 2323), "Recon": range(1, 1024)}.get(family, (8080,))
    return [one for _ in range(n) for one in flood(rng, 1, port=rng.choice(list(ports)))]


def make_tree(root, *, n=40, seed=1, only=None):
    """Write the 33 attacks and two benign captures, n packets each; `only`: just these attacks.

    The first two attacks are split into numbered files, as the large ones are.
    """
    rng = random.Random(seed)
    wanted = [name for name in ATTACKS if only is None or name in only]
    for place, name in enumerate(wanted):
        write_pcap(root / name / ODD.get(name, f"{name}.pcap"), attack(rng, ATTACKS[name], n))
        if place < 2:
            write_pcap(root / name / f"{name}1.pcap", attack(rng, ATTACKS[name], n))
    for name in ("BenignTraffic", "BenignTraffic1"):
        write_pcap(root / "Benign_Final" / f"{name}.pcap", life(rng, n, port=443))
