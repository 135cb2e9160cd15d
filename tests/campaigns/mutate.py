"""A frame and a seeded generator in, the frame damaged one way or another out.

Each mutation keeps most of the frame intact, so that what lies behind the damage is reached too.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from tests.ext import frames as f
from tests.reference import packet as twin

Link = tuple[int, bytes]
"""Link type and frame."""
EXTENSIONS: Final = (f.HOP, f.ROUTING, f.OPTIONS, f.AH, f.FRAGMENT)
LENGTHS: Final = (0, 1, 7, 8, 19, 20, 27, 28, 39, 40, 41, 1500, 0x7FFF, 0xFFD7, 0xFFD8, 0xFFFF)


def layer3_at(linktype: int, frame: bytes) -> int:
    """Return where the layer-3 packet begins; the frame's length where there is none."""
    kind, packet = twin.layer3(frame, linktype, set())
    return len(frame) - len(packet) if kind else len(frame)


def put(frame: bytes, at: int, new: bytes) -> bytes:
    """Return the frame with bytes at `at` replaced, as many as lie inside it."""
    new = new[: max(0, len(frame) - at)]
    return frame[:at] + new + frame[at + len(new) :]


def bit_flips(rng: Random, linktype: int, frame: bytes) -> Link:
    for _ in range(rng.randint(1, 4)):
        if frame:
            at = rng.randrange(min(len(frame), 120))
            frame = put(frame, at, bytes([frame[at] ^ 1 << rng.randrange(8)]))
    return linktype, frame


def noise(rng: Random, linktype: int, frame: bytes) -> Link:
    at = rng.randrange(min(len(frame), 100) + 1)
    return linktype, put(frame, at, rng.randbytes(rng.randint(1, 8)))


def truncation(rng: Random, linktype: int, frame: bytes) -> Link:
    return linktype, frame[: rng.randrange(min(len(frame), 140) + 1)]


def padding(rng: Random, linktype: int, frame: bytes) -> Link:
    return linktype, frame + rng.randbytes(rng.randint(1, 46))


def length_field(rng: Random, linktype: int, frame: bytes) -> Link:
    at = layer3_at(linktype, frame)
    value = rng.choice((*LENGTHS, len(frame) - at, rng.randrange(200))) & 0xFFFF
    six = frame[at : at + 1] >= b"\x60"
    return linktype, put(frame, at + (4 if six else 2), value.to_bytes(2, "big"))


def ip_options(rng: Random, linktype: int, frame: bytes) -> Link:
    """Another IHL; perhaps with as many bytes of options as it says."""
    at = layer3_at(linktype, frame)
    ihl = rng.randrange(16)
    if rng.random() < 0.5:
        frame = frame[: at + 20] + rng.randbytes(4 * max(0, ihl - 5)) + frame[at + 20 :]
    return linktype, put(frame, at, bytes([0x40 | ihl]))


def tcp_options(rng: Random, linktype: int, frame: bytes) -> Link:
    """Another data offset; perhaps with as many bytes of options as it says."""
    at = layer3_at(linktype, frame)
    segment = at + (40 if frame[at : at + 1] >= b"\x60" else 20)
    offset = rng.randrange(16)
    if rng.random() < 0.5:
        options = rng.randbytes(4 * max(0, offset - 5))
        frame = frame[: segment + 20] + options + frame[segment + 20 :]
    return linktype, put(frame, segment + 12, bytes([offset << 4]))


def fragmented(rng: Random, linktype: int, frame: bytes) -> Link:
    field = rng.choice((0x2000, 0x4000, 1, 0x1FFF, 0x2005, rng.randrange(1 << 16)))
    return linktype, put(frame, layer3_at(linktype, frame) + 6, field.to_bytes(2, "big"))


def protocol(rng: Random, linktype: int, frame: bytes) -> Link:
    """Another next protocol: of IPv4 or, where the version says so, of IPv6."""
    at = layer3_at(linktype, frame)
    field = 6 if frame[at : at + 1] >= b"\x60" else 9
    value = rng.choice((1, 6, 17, 58, 50, 59, *EXTENSIONS, rng.randrange(256)))
    return linktype, put(frame, at + field, bytes([value]))


def extension_headers(rng: Random, linktype: int, frame: bytes) -> Link:
    """One to eleven IPv6 extension headers in front of what there was, the length put right."""
    at = layer3_at(linktype, frame)
    packet = frame[at:]
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return linktype, frame
    following, body = packet[6], packet[40:]
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8, 9, 11))):
        kind = rng.choice(EXTENSIONS)
        if kind == f.FRAGMENT:
            offset = rng.choice((0, 0, 0, rng.randrange(1 << 13)))
            header = f.fragment(following, offset=offset, more=rng.random() < 0.5)
        elif kind == f.AH:
            header = f.authentication(following, words=rng.randrange(6))
        else:
            header = f.extension(following, units=rng.choice((0, 0, 0, 1, 2, 30)))
        if rng.random() < 0.03:  # a length that nothing stands behind
            header = put(header, 1, bytes([rng.choice((1, 100, 255))]))
        following, body = kind, header + body
    size = len(body).to_bytes(4, "big")[-2:]
    return linktype, frame[: at + 4] + size + bytes([following]) + packet[7:40] + body


def vlan_tags(rng: Random, linktype: int, frame: bytes) -> Link:
    if linktype != f.ETHERNET or len(frame) < 14:
        return linktype, frame
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        tag = rng.choice((f.VLAN, f.QINQ)).to_bytes(2, "big") + rng.randbytes(2)
        frame = frame[:12] + tag + frame[12:]
    return linktype, frame


def other_version(rng: Random, linktype: int, frame: bytes) -> Link:
    at = layer3_at(linktype, frame)
    first = frame[at] & 15 if at < len(frame) else 0
    return linktype, put(frame, at, bytes([rng.randrange(16) << 4 | first]))


def relabelled(rng: Random, linktype: int, frame: bytes) -> Link:
    """The same bytes, said to be of another link type."""
    return rng.choice((*twin.LINK_TYPES, 2, 127)), frame


def rewrapped(rng: Random, linktype: int, frame: bytes) -> Link:
    """The same packet on another kind of link."""
    packet = frame[layer3_at(linktype, frame) :]
    six = packet[:1] >= b"\x60"
    kind = f.IPV6 if six else f.IPV4
    order = rng.choice("<>")
    family = rng.choice((10, 24, 28, 30)) if six else 2
    way = rng.randrange(6)
    return rng.choice(
        (
            (f.ETHERNET, f.ethernet(packet, kind)),
            (f.COOKED_V1, f.cooked_v1(packet, kind, kind=way)),
            (f.COOKED_V2, f.cooked_v2(packet, kind, kind=way)),
            (f.NULL, f.loopback(packet, family, order=order)),
            (f.LOOP, f.loopback(packet, family, order=">")),
            (rng.choice((12, 101, 229 if six else 228)), packet),
        )
    )


Mutation = Callable[[Random, int, bytes], Link]
MUTATIONS: Final[tuple[Mutation, ...]] = (
    bit_flips,
    noise,
    truncation,
    padding,
    length_field,
    ip_options,
    tcp_options,
    fragmented,
    protocol,
    extension_headers,
    vlan_tags,
    other_version,
    relabelled,
    rewrapped,
)


def mutate(rng: Random, linktype: int, frame: bytes) -> Link:
    """Return the frame after one to three mutations."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        linktype, frame = rng.choice(MUTATIONS)(rng, linktype, frame)
    return linktype, frame
