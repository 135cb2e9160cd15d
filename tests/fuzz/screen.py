"""Frames in any order at any time in: the compiled prescreener does what its slow twin does."""

from collections.abc import Iterator

from tests.ext.screening import EVERYTHING, SMALL, check
from tests.ext.traffic import Sent, Story
from tests.fuzz.parse import DIRECTIONS, LINKS, catalogue

MOST = 300  # frames; the twin is slow


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


def fuzz(data: bytes) -> None:
    """First byte: thresholds, and whether the rest is choices or frames."""
    if not data:
        return
    choose = Bytes(data[1:])
    configured = SMALL if data[0] & 1 else EVERYTHING
    if data[0] & 2:
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
        yield bytes([seed & 1]) + bytes((seed * 37 + i * i * 11 + i // 7) & 255 for i in range(900))
