"""What the campaign of inline speed sends: every frame is one that the kernel takes for sound."""

from tests.campaigns.inline import LOAD_PORT
from tests.campaigns.inline_speed import pool

GATEWAY, SENDER = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"


def sound(words: bytes) -> bool:
    """Whether words with their checksum in them add up (RFC 1071): a number of 16-bit digits is its
    digits' sum modulo 0xFFFF, and of one's complement that is zero."""
    return int.from_bytes(words, "big") % 0xFFFF == 0


def test_every_frame_adds_up() -> None:
    data, ends = pool(GATEWAY, SENDER)
    senders, at = set(), 0
    for end in ends.tolist():
        frame = data[at:end].tobytes()
        at = end
        assert frame[:14] == GATEWAY + SENDER + b"\x08\0" and frame[23] == 17
        assert sound(frame[14:34])
        datagram = frame[34:]
        assert int.from_bytes(datagram[4:6], "big") == len(datagram) and datagram[6:8] != b"\0\0"
        assert sound(frame[26:34] + b"\0\x11" + datagram[4:6] + datagram)
        assert int.from_bytes(datagram[2:4], "big") == LOAD_PORT
        senders.add(frame[26:30])
    assert at == len(data) and len(senders) == 2
