"""Frames in any order at any time in: the compiled prescreener does what its slow twin does."""

from collections.abc import Iterator
from dataclasses import replace

from ids_appliance._screen import Screen
from tests.ext.screening import EVERYTHING, SMALL, check, run
from tests.ext.traffic import Sent, Story
from tests.fuzz.parse import DIRECTIONS, LINKS, catalogue

MOST = 300  # frames; the twin is slow
TINY = {"max_flows": 16, "max_senders": 16, "max_keys": 16, "max_bindings": 16}


class Bytes:
    """Chooses by the input's bytes, and 0 when there are none left."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __call__(self, n: int) -> int:
        if self.at >= len(self.data):
            return 0
        self.at += 1
        return self.data[self.at - 1] % n

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]


class Raw(Story):
    """Frames that are the input's own bytes: link type, direction, time, length, frame."""

    def frames(self, count: int) -> Iterator[Sent]:
        for _ in range(count):
            self.pass_time()
            linktype = LINKS[self.choose(len(LINKS))]
            direction = DIRECTIONS[self.choose(len(DIRECTIONS))]
            data = self.choose.take(self.choose(256))  # type: ignore[attr-defined]
            yield Sent(data, self.now_ns, direction, linktype)


class Crowd(Story):
    """Frames whose addresses and ports are nobody's twice."""

    def one(self) -> Sent:
        sent = super().one()
        data = bytearray(sent.data)
        for _ in range(self.choose(6)):
            data[self.choose(len(data))] = self.choose(256)
        return replace(sent, data=bytes(data))


def pressed(choose: Bytes, story: Story, count: int) -> None:
    """Tables so small that everything is evicted all the time: they stay within their caps."""
    screen = Screen(SMALL | TINY)
    while count > 0:
        frames = list(story.frames(min(count, 40)))
        count -= 40
        run(screen, frames)
        screen.expire(frames[-1].time_ns + choose(4) * 500_000_000)
    counters = screen.counters()
    for name, most in (("flows", 16), ("devices", 16), ("peers", 16), ("bindings", 16)):
        assert counters[name] <= most
    assert max(value for name, value in counters.items() if name.startswith("keys_")) <= 16


def fuzz(data: bytes) -> None:
    """First byte: thresholds, tables' sizes, and whether the rest is choices or frames."""
    if not data:
        return
    choose = Bytes(data[1:])
    configured = SMALL if data[0] & 1 else EVERYTHING
    if data[0] & 4:
        pressed(choose, Raw(choose) if data[0] & 2 else Crowd(choose), len(data) // 6)
    elif data[0] & 2:
        check(choose, configured, min(MOST, len(data) // 20), story=Raw(choose))
    else:
        check(choose, configured, min(MOST, len(data) // 10))


def seeds() -> Iterator[bytes]:
    frames = [
        # no time passes; link type, direction; length; then the batches' own choices
        bytes([24, 0, LINKS.index(linktype), i % len(DIRECTIONS), len(frame) & 255]) + frame[:255]
        for i, (linktype, frame) in enumerate(catalogue())
    ]
    for start in range(0, len(frames), 6):
        chunk = frames[start : start + 6]
        yield b"\x03\x00" + b"".join(bytes([0]) + frame + bytes([11]) for frame in chunk)
    for seed in range(24):
        yield bytes([seed % 6]) + bytes((seed * 37 + i * i * 11 + i // 7) & 255 for i in range(900))
