"""A seed in, one home's day on the wire out."""

import random
from pathlib import Path

from tests.campaigns.home_life.habits import KINDS, Device, Home, neighbours
from tests.campaigns.home_life.wire import Host, Wire

WEIGHTS = {"sensor": 4, "plug": 4, "camera": 2, "telephone": 2}
"""How many of a kind for one of the others."""
BEGIN_S = 1_700_000_000


def make(seed: int, *, devices: int, hours: float) -> Home:
    """Return a home with all that is said in it; equal arguments give equal bytes."""
    rng = random.Random(seed)
    net = bytes([192, 168, rng.randrange(256)])
    router = Host(mac(rng), net + b"\1")
    wire = Wire(random.Random(seed + 1_000_003), loss=rng.choice((0.0, 0.002, 0.01, 0.04)))
    end = hours * 3600
    away = Host(router.mac, bytes([9, 9, 9, 9]), 56)
    home = Home(wire, router, 0.0, end, rng.choice((router, router, away)))
    for _ in range(rng.randrange(3)):  # the line is down
        begin = rng.uniform(0, end)
        wire.cut.append((begin, begin + rng.choice((10, 60, 300, 1200))))
    names = [kind for kind in KINDS for _ in range(WEIGHTS.get(kind, 1))]
    numbers = rng.sample(range(2, 255), devices + 4)
    for number in numbers[:devices]:
        host = Host(mac(rng), net + bytes([number]), rng.choice((64, 64, 64, 128, 255)))
        home.devices.append(Device(host, rng.choice(names), random.Random(rng.getrandbits(64))))
    home.dead = [Host(mac(rng), net + bytes([number])) for number in numbers[devices:]]
    for device in home.devices:
        neighbours(home, device)
        for habit, likely in KINDS[device.kind]:
            if device.rng.random() < likely:
                habit(home, device)
    # What began before the end may last longer: a capture ends when it ends.
    wire.frames = [one for one in wire.frames if one[0] < end * 10**9]
    return home


def mac(rng: random.Random) -> bytes:
    """Return a MAC that no vendor has."""
    return bytes([0x02 | rng.randrange(64) << 2, *(rng.randrange(256) for _ in range(5))])


def write(home: Home, path: Path) -> int:
    """Write a home's capture; return its frames."""
    return home.wire.save(path, begin_s=BEGIN_S)
