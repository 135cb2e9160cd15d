"""Seeds in, a small directory of labelled captures out: floods, scans and ordinary life."""

import gzip
import json
import random
import struct

from tests.ext import frames as f

ATTACKER = bytes([203, 0, 113, 9])


def write_pcap(path, packets, *, linktype=1, cut=0, end=None):
    """packets: frames, one a millisecond; cut: captured bytes at most; end: bytes to keep."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktype)]
    for i, frame in enumerate(packets):
        kept = frame[:cut] if cut else frame
        out.append(struct.pack("<IIII", 1000 + i // 1000, i % 1000 * 1000, len(kept), len(frame)))
        out.append(kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = b"".join(out)[:end]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def addressed_to(address):
    """A frame to an IPv4 address."""
    packet = f.ipv4(f.tcp())
    return f.ethernet(packet[:16] + address + packet[20:])


def flood(rng, n, *, port):
    return [
        f.ethernet(
            f.ipv4(
                f.tcp(ports=(rng.randrange(1024, 65536), port), flags=2),
                ttl=rng.randrange(40, 250),
                source=ATTACKER,
            )
        )
        for _ in range(n)
    ]


def life(rng, n, *, port):
    out = []
    for i in range(n):
        payload = rng.randbytes(rng.randrange(4, 90))
        if i % 3:
            out.append(f.ethernet(f.ipv4(f.tcp(payload, ports=(40000 + i % 50, port), flags=24))))
        else:
            out.append(f.ethernet(f.ipv4(f.udp(payload), f.UDP)))
    return out


def make_data(root, *, n=120, seed=1):
    """Write five captures of four origins and their labels.json under `root`."""
    rng = random.Random(seed)
    entries = []
    attacks = {"match": {"ip_src": "203.0.113.9"}, "label": "malicious"}
    for number, (group, repo) in enumerate(
        [("home", "o/free"), ("office", "o/free"), ("lab", "o/free"), ("hall", "o/closed")]
    ):
        packets = life(rng, n, port=80 + number)
        packets[n // 2 : n // 2] = flood(rng, n, port=80 + number)
        file = f"{group}/mixed.pcap.gz"
        write_pcap(root / file, packets)
        entries.append(entry(file, repo, family="DoS", rules=[attacks], default="benign"))
    write_pcap(root / "home/quiet.pcap", life(rng, n, port=443))
    entries.append(entry("home/quiet.pcap", "o/free"))
    entries.append({"file": "kdd/records.csv", "kind": "csv", "family": "KDD"})
    save_labels(root, entries)
    return entries


def entry(file, repo="o/free", *, family="Benign", rules=(), default="benign", **more):
    return {
        "file": file,
        "kind": "pcap",
        "family": family,
        "rules": list(rules),
        "default": default,
        "group": file.split("/")[0],
        "origin": {"repo": repo},
        **more,
    }


def save_labels(root, entries):
    (root / "labels.json").write_text(json.dumps({"version": 1, "files": list(entries)}))
